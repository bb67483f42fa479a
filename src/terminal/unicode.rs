//! Which characters the terminal shows, by the environment.

/// Whether the locale has characters beyond ASCII.
pub fn has_unicode(env: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.into_iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    // Containers and bare ssh commands set none of these variables, but their terminals take UTF-8 all the same.
    locale.is_none_or(|locale| {
        let locale = locale.to_uppercase().replace('-', "");
        locale.contains("UTF8")
    })
}

/// Returns the sign between a figure and its error, in ASCII if the locale of this process has nothing else.
pub fn plus_minus() -> &'static str {
    if has_unicode(|name| std::env::var(name).ok()) { "±" } else { "+-" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let with = |pairs: &'static [(&str, &str)]| {
            has_unicode(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[]) && with(&[("LANG", "de_DE.utf8")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")]));
    }
}
