//! The parameters of the kernels, read from their source, so that no launch disagrees with them.

use super::machine::{Fault, KernelArg, Launch};

/// What a kernel takes at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    Address,
    Int,
    Long,
    Float,
    /// A type that no launch passes.
    Other(String),
}

/// One kernel of a source.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    pub name: String,
    pub slots: Vec<Slot>,
    /// Of the parameters, for messages.
    pub names: Vec<String>,
    /// Threads of a block at most, by its launch bounds.
    pub threads: u32,
}

/// Returns all `extern "C" __global__` functions of a source.
pub(crate) fn parse(source: &str) -> Vec<Signature> {
    let source = without_comments(source);
    let begin = "extern \"C\" __global__ void";
    source.split(begin).skip(1).filter_map(signature).collect()
}

/// Reads what follows the result's type: attributes with parentheses, the name, and the parameters in parentheses.
fn signature(mut text: &str) -> Option<Signature> {
    let mut threads = 1024;
    loop {
        let open = text.find('(')?;
        let close = open + matching(&text[open..])?;
        let name = text[..open].split_whitespace().last()?;
        let parts = || text[open + 1..close].split(',').map(str::trim).filter(|p| !p.is_empty());
        if !name.starts_with("__") {
            let last = |part: &str| part.rsplit([' ', '*']).next().unwrap_or_default().to_owned();
            let (slots, names) = parts().map(|part| (slot(part), last(part))).unzip();
            return Some(Signature { name: name.to_owned(), slots, names, threads });
        }
        if name == "__launch_bounds__" {
            threads = parts().next()?.parse().ok()?;
        }
        text = &text[close + 1..];
    }
}

/// Returns where the parenthesis closes that `text` begins with.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(i, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(i)
    })
}

fn slot(part: &str) -> Slot {
    if part.contains('*') {
        return Slot::Address;
    }
    let mut words: Vec<&str> = part.split_whitespace().filter(|word| *word != "const").collect();
    words.pop();
    match words.join(" ").as_str() {
        "int" | "unsigned" | "unsigned int" => Slot::Int,
        "long long" | "unsigned long long" | "size_t" => Slot::Long,
        "float" => Slot::Float,
        other => Slot::Other(other.to_owned()),
    }
}

fn without_comments(source: &str) -> String {
    let line = |line: &str| line.find("//").map_or(line, |at| &line[..at]).to_owned() + "\n";
    source.lines().map(line).collect()
}

impl Signature {
    /// Checks that a launch passes what the kernel takes, to as many threads as it allows.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn check(&self, launch: &Launch) -> Result<(), Fault> {
        let fault = |what: String| Err(Fault(format!("{}: {what}", self.name)));
        let (taken, passed) = (self.slots.len(), launch.values.len());
        if taken != passed {
            return fault(format!(
                "it takes {taken} values ({:?}), {passed} are passed",
                self.names
            ));
        }
        if launch.block == 0 || launch.block > self.threads {
            return fault(format!(
                "{} threads a block, its bound is {}",
                launch.block, self.threads
            ));
        }
        for (i, (slot, value)) in self.slots.iter().zip(&launch.values).enumerate() {
            let kind = match value {
                KernelArg::Address(_) => Slot::Address,
                KernelArg::Int(_) => Slot::Int,
                KernelArg::Long(_) => Slot::Long,
                KernelArg::Float(_) => Slot::Float,
            };
            if *slot != kind {
                let name = &self.names[i];
                return fault(format!(
                    "value {i} ({name}) is {slot:?} there, and {value:?} is passed"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "// extern \"C\" __global__ void none(int a)\n\
        extern \"C\" __global__ void __launch_bounds__(128, 3) scaled(const float* __restrict__ from, float* to, long long n, float by) { f(n); }\n\
        extern \"C\" __global__ void plain(int n, const bf16 x) {}\n";

    fn launch(values: Vec<KernelArg>) -> Launch {
        Launch { kernel: "scaled", grid: [1; 3], block: 128, shared: 0, values }
    }

    #[test]
    fn parameters_and_bounds_are_read_from_the_source() {
        let found = parse(SOURCE);
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["scaled", "plain"]);
        assert_eq!(found[0].slots, [Slot::Address, Slot::Address, Slot::Long, Slot::Float]);
        assert_eq!(found[0].names, ["from", "to", "n", "by"]);
        assert_eq!((found[0].threads, found[1].threads), (128, 1024));
        assert_eq!(found[1].slots, [Slot::Int, Slot::Other("bf16".to_owned())]);
    }

    #[test]
    fn a_launch_with_other_values_than_the_kernel_takes_is_refused_by_name() {
        let scaled = &parse(SOURCE)[0];
        let good = [
            KernelArg::Address(256),
            KernelArg::Address(512),
            KernelArg::Long(3),
            KernelArg::Float(0.5),
        ];
        assert_eq!(scaled.check(&launch(good.to_vec())), Ok(()));
        let short = scaled.check(&launch(good[..3].to_vec())).unwrap_err().0;
        assert!(short.starts_with("scaled: it takes 4 values"), "{short}");
        let mut other = good;
        other[2] = KernelArg::Int(3);
        let other = scaled.check(&launch(other.to_vec())).unwrap_err().0;
        assert!(other.contains("value 2 (n) is Long there"), "{other}");
        let wide = Launch { block: 256, ..launch(good.to_vec()) };
        assert!(scaled.check(&wide).unwrap_err().0.contains("its bound is 128"));
    }
}
