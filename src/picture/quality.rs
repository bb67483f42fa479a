//! Measures how close two pictures are, as PSNR and SSIM.

/// Returns the peak signal-to-noise ratio, in decibels, of values in 0..1 with this mean squared error.
///
/// A perfect copy counts as 100 dB, so that averages over images stay finite.
pub(super) fn psnr(mean_squared_error: f64) -> f64 {
    if mean_squared_error <= 1e-10 { 100.0 } else { -10.0 * mean_squared_error.log10() }
}

/// Returns the structural similarity (Wang et al. 2004) of the luma of two interleaved 8-bit RGB images `[H, W, 3]`.
///
/// The window is Gaussian, 11 pixels wide with a sigma of 1.5, and the result is the mean over all places where it
/// fits. An image smaller than the window shrinks the window.
pub(super) fn ssim(a: &[u8], b: &[u8], width: usize, height: usize) -> f64 {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let (a, b) = (luma(a), luma(b));
    let window = gaussian(11.min(width).min(height));
    let blur = |values: Vec<f64>| filtered(&values, width, height, &window);
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<_>>();
    let (aa, bb, ab) = (blur(product(&a, &a)), blur(product(&b, &b)), blur(product(&a, &b)));
    let (mean_a, mean_b) = (blur(a), blur(b));
    let places = mean_a.len();
    let sum: f64 = (0..places)
        .map(|i| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
        })
        .sum();
    sum / places as f64
}

/// Returns the luma of ITU-R BT.601, in 0..1.
fn luma(rgb: &[u8]) -> Vec<f64> {
    let weigh = |p: &[u8]| {
        (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) / 255.0
    };
    rgb.chunks_exact(3).map(weigh).collect()
}

fn gaussian(size: usize) -> Vec<f64> {
    let centre = (size as f64 - 1.0) / 2.0;
    let weights: Vec<f64> =
        (0..size).map(|i| (-(i as f64 - centre).powi(2) / (2.0 * 1.5 * 1.5)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Applies a separable filter at all places where the window fits. The result is row-major.
fn filtered(values: &[f64], width: usize, height: usize, window: &[f64]) -> Vec<f64> {
    let size = window.len();
    let (columns, rows) = (width + 1 - size, height + 1 - size);
    let mut across = Vec::with_capacity(columns * height);
    for row in values.chunks_exact(width) {
        across.extend(
            row.windows(size).map(|part| part.iter().zip(window).map(|(v, w)| v * w).sum::<f64>()),
        );
    }
    let mut out = vec![0.0; columns * rows];
    for (row, line) in out.chunks_exact_mut(columns).enumerate() {
        for (k, weight) in window.iter().enumerate() {
            let source = &across[(row + k) * columns..(row + k + 1) * columns];
            line.iter_mut().zip(source).for_each(|(out, value)| *out += weight * value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a picture by a formula, so that other programs can make it too for reference values.
    fn picture(seed: usize) -> Vec<u8> {
        (0..24 * 20 * 3).map(|i| ((i * i / 7 + i * seed * 13 + seed * 31) % 256) as u8).collect()
    }

    #[test]
    fn psnr_follows_the_definition() {
        assert!((psnr(0.01) - 20.0).abs() < 1e-12);
        assert!((psnr(0.0) - 100.0).abs() < 1e-12, "finite for a perfect copy");
    }

    const SSIM_FAR: f64 = 0.058_284_963_486;
    const SSIM_NEAR: f64 = 0.989_409_741_909;

    #[test]
    fn ssim_is_one_for_equal_pictures_and_matches_scikit_image() {
        let (a, b) = (picture(1), picture(2));
        assert!((ssim(&a, &a, 24, 20) - 1.0).abs() < 1e-12);
        let near: Vec<u8> = a.iter().map(|&v| v.saturating_add(20)).collect();
        // skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        // data_range=1) on BT.601 luma, mean over the inner places where the 11x11 window fits.
        assert!((ssim(&a, &b, 24, 20) - SSIM_FAR).abs() < 1e-6, "{}", ssim(&a, &b, 24, 20));
        assert!((ssim(&a, &near, 24, 20) - SSIM_NEAR).abs() < 1e-6);
    }

    #[test]
    fn pictures_smaller_than_the_window_work() {
        let (a, b) = (&picture(1)[..4 * 3 * 3], &picture(2)[..4 * 3 * 3]);
        let value = ssim(a, b, 4, 3);
        assert!((-1.0..1.0).contains(&value), "{value}");
        assert!((ssim(&[9, 9, 9], &[9, 9, 9], 1, 1) - 1.0).abs() < 1e-12);
    }
}
