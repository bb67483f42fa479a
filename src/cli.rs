//! The command line.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Pre-train a Vision Transformer by SimMIM (masked image modelling).
///
/// Without a command it trains: by default a small model on the photos inside the binary.
#[derive(Debug, Parser)]
#[command(version, long_version = crate::version::LONG, args_conflicts_with_subcommands = true, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    #[command(flatten)]
    pub train: TrainArgs,
}

const AFTER: &str = "Exit codes: 0 finished, or stopped and saved; 1 failed; 2 usage or configuration; \
    3 stopped on a loss that is not a number; 130 aborted by a second interrupt.\n\
    Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint and end the run, SIGUSR2 saves and goes on; a dropped line doesn't \
    end it, see --on-hangup.";

#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Train (the default command)
    Train(TrainArgs),
    /// Train a classifier on the encoder of a pre-trained checkpoint
    ///
    /// Labels are the classes of the data: folders, CIFAR, STL-10 or IDX files with labels. Same screen, same run folder,
    /// same --resume as in pre-training; the best checkpoint is that of the highest accuracy
    Finetune(crate::command::finetune::FinetuneArgs),
    /// Show steps, learning-rate schedule, parameters and memory of a run without running it
    Plan(ConfigArgs),
    /// Time the training step and the loader; prints one JSON object
    Bench(BenchArgs),
    /// Show the previews of a run, or images, in the plain shell or as PNG
    #[cfg(feature = "tui")]
    Preview(crate::command::preview::PreviewArgs),
    /// The screen on a run of another process: the same keys on a live run, a replay of one that has ended
    #[cfg(feature = "tui")]
    Attach(AttachArgs),
    /// Draw the features of images as points in the plane, in the terminal or as PNG
    #[cfg(feature = "tui")]
    Embed(crate::command::embed::EmbedArgs),
    /// Tell what the pre-training was worth: k-NN and linear probe on labelled images, beside an untrained encoder and
    /// raw pixels
    Eval(crate::command::eval::EvalArgs),
    /// Write the encoder's features of images to a file, with labels and names
    Features(crate::command::features::FeaturesArgs),
    /// Write weights or metrics in the formats of timm, Hugging Face, spreadsheets and TensorBoard
    Export(crate::command::export::ExportArgs),
    /// Say what model a weights file holds, as a configuration, or make a checkpoint of it; training starts from it with --init
    Import(crate::weights::foreign::start::ImportArgs),
    /// List runs, newest first
    Runs(RunsArgs),
    /// Give an order to a run that goes on, or show how a run does
    ///
    /// Waits until the order is carried out. Exit codes: 0 done; 1 not done, or the run can't be reached; 2 usage
    Ctl(CtlArgs),
    /// What this machine and terminal can do, what is decided from it, and why
    Doctor(crate::command::doctor::DoctorArgs),
    /// Print the completions of a shell
    ///
    /// bash: simmim-tui completions bash > ~/.local/share/bash-completion/completions/simmim-tui
    Completions(crate::command::shell::CompletionsArgs),
    /// Print the manual page, or write one page per command into a folder
    Man(crate::command::shell::ManArgs),
    /// Compare with values that PyTorch computed
    #[command(hide = true)]
    Parity(ParityArgs),
}

/// What decides the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// TOML file, or the name of a built-in configuration (default, smoke, fashion_mnist, vit_small_96, vit_base_224,
    /// vit_ssl, finetune)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Training images: a folder, or CIFAR-10/100, STL-10 or IDX files [short for --set data.path=DIR]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Start a new run from the weights in this file: a timm ViT, official SimMIM, an export or a checkpoint, as
    /// safetensors; see `simmim-tui import` [short for --set train.init=FILE]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [short for --set train.device=DEVICE]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// After a step that is not a number: stop, pause, skip or ignore [short for --set alarms.on_nan=POLICY]
    #[arg(long, value_name = "POLICY")]
    pub on_nan: Option<String>,
    /// Set one key of the configuration; may be repeated, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where the run is kept [default: runs/NAME-001, -002, …]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with a run, or from a checkpoint file; with another --run-dir the old run stays as it is.
    /// With the same --run-dir it starts the run if there is none yet, for job scripts
    #[arg(long, value_name = "RUN|CKPT")]
    pub resume: Option<PathBuf>,
    /// Plain lines instead of the screen; so it is anyway where there is no terminal
    #[arg(long)]
    pub no_ui: bool,
    #[cfg(feature = "tui")]
    #[command(flatten)]
    pub look: LookArgs,
    /// Headless with one JSON object per line, as in events.jsonl
    #[arg(long)]
    pub json: bool,
    /// Train in the background; the shell gets its prompt back once all is known to be right
    #[arg(long)]
    pub detach: bool,
    /// What a dropped line (SIGHUP, closed terminal) does: save a checkpoint and go on, or save and end
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub on_hangup: OnHangup,
    /// Run `sh -c CMD` at alarms and at the end, with SIMMIM_EVENT, _ALARM, _STEP, _MESSAGE and _RUN in its environment
    #[arg(long, value_name = "CMD")]
    pub notify: Option<String>,
}

/// What follows a hangup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnHangup {
    #[default]
    Continue,
    Stop,
}

/// How the screen looks.
#[cfg(feature = "tui")]
#[derive(Debug, Clone, Default, Args)]
pub struct LookArgs {
    /// Colours of the screen; auto goes by NO_COLOR, COLORTERM and TERM
    #[arg(long, value_enum)]
    pub color: Option<Color>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[cfg(feature = "tui")]
impl LookArgs {
    /// Colours, and whether only ASCII characters are drawn, by options and environment.
    pub fn detect(&self) -> (crate::ui::theme::Detected, bool) {
        use crate::ui::theme;
        let env = |name: &str| std::env::var(name).ok();
        let colors = theme::detect(self.color.and_then(Color::depth), env);
        (colors, self.ascii || !theme::has_unicode(env))
    }
}

/// Colours of the screen.
#[cfg(feature = "tui")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    Auto,
    True,
    #[value(name = "256")]
    Indexed,
    #[value(name = "16")]
    Sixteen,
    None,
}

#[cfg(feature = "tui")]
impl Color {
    pub fn depth(self) -> Option<crate::ui::theme::ColorDepth> {
        use crate::ui::theme::ColorDepth;
        match self {
            Self::Auto => None,
            Self::True => Some(ColorDepth::True),
            Self::Indexed => Some(ColorDepth::Indexed),
            Self::Sixteen => Some(ColorDepth::Sixteen),
            Self::None => Some(ColorDepth::Mono),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One JSON object on standard output (there is no other format)
    #[arg(long)]
    pub json: bool,
    /// Side of the images, pixels [model.image_size]
    #[arg(long)]
    pub image: Option<usize>,
    /// Side of a patch, pixels [model.patch_size]; the mask unit follows if it doesn't fit
    #[arg(long)]
    pub patch: Option<usize>,
    /// Width of the embedding [model.embed_dim]
    #[arg(long)]
    pub dim: Option<usize>,
    /// Encoder blocks [model.depth]
    #[arg(long)]
    pub depth: Option<usize>,
    /// Attention heads [model.heads]
    #[arg(long)]
    pub heads: Option<usize>,
    /// Images per step [train.batch_size]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Timed steps
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Steps before timing starts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
}

#[derive(Debug, Clone, Args)]
pub struct RunsArgs {
    /// Folders with runs in them, or runs [default: runs]
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// One JSON object per run
    #[arg(long)]
    pub json: bool,
}

#[cfg(feature = "tui")]
#[derive(Debug, Clone, Args)]
pub struct AttachArgs {
    /// The run's directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Only watch: no key gives an order
    #[arg(long)]
    pub read_only: bool,
    /// Draw the loss of these runs behind
    #[arg(long, value_name = "RUN", num_args = 1..)]
    pub compare: Vec<PathBuf>,
    #[command(flatten)]
    pub look: LookArgs,
}

#[derive(Debug, Clone, Args)]
pub struct CtlArgs {
    /// The run's directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[arg(value_enum)]
    pub order: CtlOrder,
    /// One JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Don't wait until the order is carried out
    #[arg(long)]
    pub no_wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlOrder {
    /// Pause after the current step
    Pause,
    /// Go on after a pause
    Resume,
    /// Save a checkpoint now
    Checkpoint,
    /// Save a checkpoint and end the run
    Stop,
    /// Show how the run does; works on ended runs too
    Status,
}

impl CtlOrder {
    /// What the trainer is to do; nothing for a mere look.
    pub fn command(self) -> Option<crate::event::Command> {
        use crate::event::Command;
        match self {
            Self::Pause => Some(Command::Pause),
            Self::Resume => Some(Command::Resume),
            Self::Checkpoint => Some(Command::Checkpoint),
            Self::Stop => Some(Command::Stop),
            Self::Status => None,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct ParityArgs {
    /// safetensors file with parameters, inputs and expected values
    pub file: PathBuf,
    /// cpu or cuda[:N]
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl ConfigArgs {
    /// All overrides in order of rank, as `--set` texts.
    pub fn overrides(&self) -> Vec<String> {
        // Quoted as a TOML literal so that no path is mistaken for a number or a date.
        let literal = |text: String| toml::Value::String(text).to_string();
        let mut sets = self.sets.clone();
        if let Some(path) = &self.data {
            sets.push(format!("data.path={}", literal(path.display().to_string())));
        }
        if let Some(path) = &self.init {
            sets.push(format!("train.init={}", literal(path.display().to_string())));
        }
        if let Some(device) = &self.device {
            sets.push(format!("train.device={}", literal(device.clone())));
        }
        if let Some(policy) = &self.on_nan {
            sets.push(format!("alarms.on_nan={}", literal(policy.clone())));
        }
        sets
    }

    /// The name that runs of this configuration get.
    pub fn name(&self) -> String {
        let stem = self.config.as_ref().and_then(|path| path.file_stem());
        stem.map_or_else(|| "default".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn train_options_work_with_and_without_the_command() {
        for words in [
            vec!["simmim-tui", "--no-ui", "--set", "train.epochs=3"],
            vec!["simmim-tui", "train", "--no-ui", "--set", "train.epochs=3"],
        ] {
            let cli = Cli::try_parse_from(words).expect("valid");
            let args = match cli.command {
                Some(CliCommand::Train(args)) => args,
                None => cli.train,
                other => panic!("{other:?}"),
            };
            assert!(args.no_ui);
            assert_eq!(args.config.sets, ["train.epochs=3"]);
        }
    }

    #[test]
    fn short_flags_become_quoted_settings_of_higher_rank() {
        let cli =
            Cli::try_parse_from(["x", "--data", "1", "--set", "data.path=2", "--device", "cpu"]);
        let sets = cli.expect("valid").train.config.overrides();
        assert_eq!(sets, ["data.path=2", "data.path=\"1\"", "train.device=\"cpu\""]);
    }
}
