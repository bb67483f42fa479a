//! Interpolates learned positions to another grid of patches.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Interpolates positions from a grid of `from` x `from` patches to one of `to` x `to`: bicubic with antialiasing, as
/// timm's `resample_abs_pos_embed` does. `[from², dim] -> [to², dim]`
pub(super) fn resample(rows: &[f32], from: usize, to: usize, dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; to * to * dim];
    let mut resizer = Resizer::new();
    // Catmull-Rom is the cubic with a = −0.5, which PyTorch uses with antialiasing.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    for channel in 0..dim {
        let plane: Vec<f32> = rows.iter().skip(channel).step_by(dim).copied().collect();
        let bytes = bytemuck::cast_slice(&plane).to_vec();
        let source = Image::from_vec_u8(from as u32, from as u32, bytes, PixelType::F32)
            .expect("a plane holds from * from numbers");
        let mut target = Image::new(to as u32, to as u32, PixelType::F32);
        resizer.resize(&source, &mut target, &options).expect("both planes have the same type");
        let values = bytemuck::pod_collect_to_vec::<u8, f32>(target.buffer());
        for (place, value) in out.iter_mut().skip(channel).step_by(dim).zip(values) {
            *place = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_timm() {
        // timm.layers.resample_abs_pos_embed(x, [5, 5], num_prefix_tokens=0) of sin(0.7 i + 2 j), [1, 9, 2], and to [2, 2].
        let rows: Vec<f32> = (0..9)
            .flat_map(|i| {
                (0..2).map(move |j| ((0.7 * f64::from(i) + 2.0 * f64::from(j)).sin()) as f32)
            })
            .collect();
        for (to, expected) in [(5, &UP[..]), (2, &DOWN[..])] {
            let found = resample(&rows, 3, to, 2);
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 2e-5, "{a} and {b}");
            }
        }
    }

    const UP: [f32; 50] = [
        -0.12045, 1.07778, 0.1731, 0.89647, 0.66756, 0.53482, 0.97223, 0.02112, 1.1179, -0.27866,
        0.36427, 0.3016, 0.45854, 0.14111, 0.59475, -0.14243, 0.56187, -0.38548, 0.52439, -0.51441,
        0.90307, -0.80485, 0.70864, -0.89368, 0.33499, -0.99616, -0.1339, -0.81544, -0.40254,
        -0.68361, -0.20108, -0.44704, -0.33048, -0.30261, -0.53421, -0.03759, -0.58607, 0.23812,
        -0.59713, 0.39088, -0.99651, -0.08231, -1.04957, 0.20887, -1.08188, 0.69728, -0.80662,
        0.98745, -0.62002, 1.12418,
    ];
    const DOWN: [f32; 8] =
        [0.45007, 0.14598, 0.55875, -0.37543, -0.33414, -0.29251, -0.58044, 0.24168];
}
