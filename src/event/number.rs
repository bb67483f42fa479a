//! Reads figures that may be NaN. JSON has no NaN, so a figure that is not finite is written as `null` and read as NaN.

use serde::{Deserialize, Deserializer};

/// A type of number that has a NaN.
pub trait Figure {
    const NAN: Self;
}

impl Figure for f32 {
    const NAN: Self = f32::NAN;
}

impl Figure for f64 {
    const NAN: Self = f64::NAN;
}

/// Reads one figure; `null` becomes NaN.
///
/// # Errors
/// If the value is neither a number nor `null`.
pub fn or_nan<'de, D, F>(source: D) -> Result<F, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    Ok(Option::deserialize(source)?.unwrap_or(F::NAN))
}

/// Reads a list of figures; each `null` becomes NaN.
///
/// # Errors
/// If the value is not a list of numbers and `null`s.
pub fn all_or_nan<'de, D, F>(source: D) -> Result<Vec<F>, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    let all: Vec<Option<F>> = Vec::deserialize(source)?;
    Ok(all.into_iter().map(|one| one.unwrap_or(F::NAN)).collect())
}

/// Reads one figure of a field that may be absent; a `null` becomes NaN, which is not the same as an absent field.
///
/// # Errors
/// As for [`or_nan`].
pub fn some_or_nan<'de, D, F>(source: D) -> Result<Option<F>, D::Error>
where
    D: Deserializer<'de>,
    F: Figure + Deserialize<'de>,
{
    or_nan(source).map(Some)
}
