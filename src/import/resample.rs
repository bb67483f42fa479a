//! Learned positions on another grid.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Interpolates positions from a grid of `from` x `from` patches to one of `to` x `to`, bicubic with antialiasing as
/// timm's `resample_abs_pos_embed` does. [from², dim] -> [to², dim]
pub fn resample(rows: &[f32], from: usize, to: usize, dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; to * to * dim];
    let mut resizer = Resizer::new();
    // a = −0.5, as PyTorch takes with antialiasing.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    for channel in 0..dim {
        let plane: Vec<f32> = rows.iter().skip(channel).step_by(dim).copied().collect();
        let bytes = bytemuck::cast_slice(&plane).to_vec();
        let source = Image::from_vec_u8(from as u32, from as u32, bytes, PixelType::F32)
            .expect("a plane has from x from numbers");
        let mut target = Image::new(to as u32, to as u32, PixelType::F32);
        resizer.resize(&source, &mut target, &options).expect("two planes of the same type");
        let resized = bytemuck::pod_collect_to_vec::<u8, f32>(target.buffer());
        for (place, value) in out.iter_mut().skip(channel).step_by(dim).zip(resized) {
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
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }

    const UP: [f32; 50] = [
        -0.120446, 1.07778, 0.173096, 0.89647, 0.667556, 0.534817, 0.972233, 0.0211183, 1.1179,
        -0.278665, 0.364271, 0.301598, 0.458539, 0.141114, 0.594746, -0.142428, 0.56187, -0.385478,
        0.524393, -0.514412, 0.903075, -0.804852, 0.708644, -0.893684, 0.334988, -0.996165,
        -0.133903, -0.815441, -0.40254, -0.683606, -0.201078, -0.447041, -0.330481, -0.30261,
        -0.534211, -0.0375874, -0.586068, 0.238121, -0.597135, 0.390879, -0.996512, -0.0823116,
        -1.04957, 0.208872, -1.08188, 0.697278, -0.806616, 0.98745, -0.620024, 1.12418,
    ];
    const DOWN: [f32; 8] =
        [0.450072, 0.145984, 0.558754, -0.375428, -0.334141, -0.29251, -0.580435, 0.241681];
}
