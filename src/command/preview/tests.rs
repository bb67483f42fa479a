use super::*;
use crate::picture::sheet::{SheetRow, compose};
use image::Rgb;

fn sheet(shade: u8) -> RgbImage {
    let picture = |value| RgbImage::from_pixel(8, 8, Rgb([value, shade, 0]));
    let row = SheetRow {
        original: picture(1),
        masked: picture(2),
        reconstructed: picture(3),
        raw: picture(4),
    };
    compose(&[row], 2)
}

/// Makes a run with sheets of these steps, each with its step as the green value.
fn run_with(steps: &[u8]) -> tempfile::TempDir {
    let run = tempfile::tempdir().unwrap();
    let previews = run.path().join("previews");
    fs::create_dir(&previews).unwrap();
    fs::write(previews.join("step-00000999.png.tmp"), "half").unwrap();
    for &step in steps {
        sheet(step).save(previews.join(format!("step-{step:08}.png"))).unwrap();
    }
    run
}

/// Stands in for the model, and fails with what it was given.
fn refuse(checkpoint: &Path, images: &[PathBuf]) -> Result<RgbImage, Error> {
    Err(Error::Failed(format!("{} with {} images", checkpoint.display(), images.len())))
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn args(what: &[&Path]) -> PreviewArgs {
    PreviewArgs { what: what.iter().map(|path| path.to_path_buf()).collect(), ..Default::default() }
}

fn piped(args: &PreviewArgs) -> Result<RgbImage, PreviewError> {
    let mut out = Vec::new();
    run_in(args, no_env, false, &mut out, &refuse)?;
    assert!(out.starts_with(b"\x89PNG"));
    Ok(image::load_from_memory_with_format(&out, ImageFormat::Png).unwrap().into_rgb8())
}

#[test]
fn a_pipe_gets_the_newest_sheet_as_a_png() {
    let run = run_with(&[20, 100, 90]);
    assert_eq!(piped(&args(&[run.path()])).unwrap(), sheet(100));
}

#[test]
fn a_step_picks_the_nearest_sheet() {
    let run = run_with(&[20, 100, 90]);
    for (step, nearest) in [(0, 20), (55, 20), (56, 90), (96, 100), (9999, 100)] {
        let args = PreviewArgs { step: Some(step), ..args(&[run.path()]) };
        assert_eq!(piped(&args).unwrap(), sheet(nearest), "step {step}");
    }
}

#[test]
fn a_file_gets_a_png_and_standard_output_nothing() {
    let run = run_with(&[7]);
    let output = Some(run.path().join("out.png"));
    let args = PreviewArgs { output: output.clone(), ..args(&[run.path()]) };
    for terminal in [false, true] {
        let mut out = Vec::new();
        run_in(&args, no_env, terminal, &mut out, &refuse).unwrap();
        assert!(out.is_empty());
        assert_eq!(image::open(output.as_ref().unwrap()).unwrap().into_rgb8(), sheet(7));
    }
}

#[test]
fn several_pictures_stand_one_above_the_other() {
    let run = run_with(&[1, 2]);
    let file = |step| run.path().join(format!("previews/step-0000000{step}.png"));
    let all = piped(&args(&[&file(1), &file(2)])).unwrap();
    let (width, height) = sheet(1).dimensions();
    assert_eq!(all.dimensions(), (width, 2 * height + 2));
    assert_eq!(all.get_pixel(0, height).0, [255; 3]);
    assert_eq!(all.get_pixel(0, height + 2), sheet(2).get_pixel(0, 0));
}

#[test]
fn what_cannot_be_shown_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("notes.txt"), "no picture").unwrap();
    fs::write(path("model.safetensors"), "").unwrap();
    let empty = run_with(&[]);
    let cases = [
        (path("missing"), "No such file"),
        (folder.path().to_owned(), "not a run"),
        (empty.path().to_owned(), "no previews yet"),
        (path("notes.txt"), "not a picture"),
        (path("model.safetensors"), "with 0 images"),
    ];
    for (what, expected) in cases {
        let text = piped(&args(&[&what])).unwrap_err().to_string();
        assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
        assert!(text.contains(&what.display().to_string()), "{text}");
    }
    assert!(piped(&args(&[])).unwrap_err().to_string().contains("nothing to show"));
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let run = run_with(&[1]);
    let output = run.path().join("no/such/x.png");
    let args = PreviewArgs { output: Some(output.clone()), ..args(&[run.path()]) };
    let text = run_in(&args, no_env, true, &mut Vec::new(), &refuse).unwrap_err().to_string();
    assert!(text.starts_with(&output.display().to_string()), "{text}");
}

#[test]
fn a_reader_that_left_is_no_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let run = run_with(&[1]);
    run_in(&args(&[run.path()]), no_env, false, &mut Gone, &refuse).unwrap();
}
