//! Which program this is: release, commit, features.

/// `0.1.0+1a2b3c4d5`: the release with the commit as its build metadata, as semantic versioning writes it. `-modified`
/// follows where the sources differ from the commit, `unknown` stands where there was no repository.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SIMMIM_TUI_COMMIT"));

/// Optional parts that are compiled in.
pub const FEATURES: &str = texts().0;

/// What `--version` prints behind the program's name.
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
