//! Which program this is: release, commit and features.

/// The release with the commit as its build metadata, as semantic versioning writes it: `0.1.0+1a2b3c4d5`. The commit
/// is followed by `-modified` if the sources differ from it, and is `unknown` if there was no repository.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SIMMIM_TUI_COMMIT"));

/// The Cargo features that the program was built with.
pub const FEATURES: &str = texts().0;

/// The text that `--version` prints after the program's name.
pub const LONG: &str = texts().1;

const fn texts() -> (&'static str, &'static str) {
    macro_rules! with {
        ($features:literal) => {
            (
                $features,
                concat!(
                    env!("CARGO_PKG_VERSION"),
                    "\ncommit: ",
                    env!("SIMMIM_TUI_COMMIT"),
                    "\nfeatures: ",
                    $features
                ),
            )
        };
    }
    match (cfg!(feature = "cuda"), cfg!(feature = "tui")) {
        (true, true) => with!("cuda, tui"),
        (true, false) => with!("cuda"),
        (false, true) => with!("tui"),
        (false, false) => with!("none"),
    }
}
