//! JSON has no NaN: figures that are not finite are written as `null` and read back as NaN.

use serde::{Deserialize, Deserializer};

/// A figure a chart can show as missing.
pub trait Figure {
    const NAN: Self;
}

impl Figure for f32 {
    const NAN: Self = f32::NAN;
}

impl Figure for f64 {
    const NAN: Self = f64::NAN;
}

/// One figure, or NaN for `null`.
///
/// # Errors
/// Neither a number nor `null`.
pub fn or_nan<'de, D, F>(source: D) -> Result<F, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    Ok(Option::deserialize(source)?.unwrap_or(F::NAN))
}

/// A list of them.
///
/// # Errors
/// As [`or_nan`].
pub fn all_or_nan<'de, D, F>(source: D) -> Result<Vec<F>, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    let all: Vec<Option<F>> = Vec::deserialize(source)?;
    Ok(all.into_iter().map(|one| one.unwrap_or(F::NAN)).collect())
}

/// One figure that is there, or NaN for `null`; for fields that may be absent.
///
/// # Errors
/// As [`or_nan`].
pub fn some_or_nan<'de, D, F>(source: D) -> Result<Option<F>, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    or_nan(source).map(Some)
}
