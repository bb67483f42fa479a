//! The program carries compiled kernels, so that nobody needs a compiler to use a GPU. They must be those of the sources.

use std::path::Path;
use std::process::Command;

/// The exit code of the tool where there is no NVRTC.
const NO_NVRTC: i32 = 3;

#[test]
fn the_compiled_kernels_are_those_of_their_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda");
    let stamp = std::fs::read_to_string(folder.join("compiled/sources.txt"));
    let stamp = stamp.expect("the tool writes it");
    let mut lines = stamp.lines();
    assert!(lines.next().expect("a first line").starts_with("nvrtc "), "{stamp}");
    let mut sources = 0;
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, length, checksum] = words[..] else { panic!("{line}") };
        let source = std::fs::read(folder.join(name)).expect("a source");
        let mut crc = flate2::Crc::new();
        crc.update(&source);
        let found = format!("{} {:08x}", source.len(), crc.sum());
        assert_eq!(
            found,
            format!("{length} {checksum}"),
            "{name} has changed: run tools/compile_kernels.py"
        );
        sources += 1;
    }
    assert_eq!(sources, 2, "{stamp}");
}

#[test]
fn nvrtc_compiles_the_sources_to_the_same_bytes() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/compile_kernels.py");
    let Ok(output) = Command::new("python3").arg(tool).arg("--check").output() else {
        println!("skipped: python3 doesn't run");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(NO_NVRTC) {
        println!("skipped: {}", text.trim());
        return;
    }
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
