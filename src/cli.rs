//! The command line: the commands, and what stands before and after them in the help.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use crate::command;
use crate::command::args::TrainArgs;
use clap::{Parser, Subcommand};

/// Pre-train a Vision Transformer by SimMIM (masked image modelling).
///
/// Without a command, it trains; by default, a small model on the photos built into the binary.
#[derive(Debug, Parser)]
#[command(version, long_version = crate::version::LONG, args_conflicts_with_subcommands = true, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    #[command(flatten)]
    pub train: TrainArgs,
    /// Print the licences of this program and of the libraries that are linked into it
    #[arg(long, exclusive = true)]
    pub licenses: bool,
}

/// What `--licenses` prints; `tools/notices.py` writes it.
pub(crate) const NOTICES: &str = include_str!("../assets/notices.txt");

const AFTER: &str = "Exit codes: 0 finished, or stopped and saved; 1 failed; 2 usage or configuration; \
    3 stopped on a loss that is not a number; 130 aborted by a second interrupt.\n\
    Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint and end the run; SIGUSR2 saves a checkpoint and training continues. \
    A lost connection doesn't end the run; see --on-hangup.";

#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Train (the default command)
    Train(TrainArgs),
    /// Train a classifier on the encoder of a pre-trained checkpoint
    ///
    /// The labels are the classes of the data: folders, or CIFAR, STL-10 or IDX files with labels. The screen, the run
    /// directory and --resume work as in pre-training; the best checkpoint is the one with the highest accuracy
    Finetune(command::finetune::FinetuneArgs),
    /// Show the steps, learning-rate schedule, parameters, memory and speed of a run without running it
    Plan(command::plan::PlanArgs),
    /// Time the training step and the data loader, or the data alone
    Bench(command::bench::BenchArgs),
    /// Write images into tar shards, as WebDataset reads them, and shrink them on the way if asked to
    ///
    /// If it is interrupted or killed, the same command goes on behind the shards that are finished, and ends with the
    /// same bytes
    Pack(command::pack::PackArgs),
    /// Show the previews of a run, images, or what a checkpoint reconstructs, in the terminal or as a PNG file
    #[cfg(feature = "tui")]
    Preview(command::preview::PreviewArgs),
    /// Open the screen on the run of another process: watch and steer it, or replay it if it has ended
    #[cfg(feature = "tui")]
    Attach(command::attach::AttachArgs),
    /// Draw the features of images as points in the plane, in the terminal or as a PNG file
    #[cfg(feature = "tui")]
    Embed(command::embed::EmbedArgs),
    /// Measure what the pre-training is worth: k-NN and a linear probe on labelled images, compared with an untrained
    /// encoder and raw pixels
    Eval(command::eval::EvalArgs),
    /// Write the encoder's features of images to a file, with labels and names
    Features(command::features::FeaturesArgs),
    /// Export weights or metrics in the formats of timm, Hugging Face, spreadsheets and TensorBoard
    Export(command::export::ExportArgs),
    /// Show which model a weights file holds, as a configuration, or convert it to a checkpoint; to train from it, use
    /// --init
    Import(command::import::ImportArgs),
    /// List runs, newest first
    Runs(command::runs::RunsArgs),
    /// Give an order to a run that is being trained, or show the state of a run
    ///
    /// Waits until the order is carried out. Exit codes: 0 done; 1 not done, or the run can't be reached; 2 usage
    Ctl(command::ctl::CtlArgs),
    /// Check the log, checkpoints and pictures of a run, and say what is sound and what to do
    Check(command::check::CheckArgs),
    /// Show what this machine and terminal can do, what the program decides from it, and why
    Doctor(command::doctor::DoctorArgs),
    /// Print the completion script for a shell
    ///
    /// For bash: simmim-tui completions bash > ~/.local/share/bash-completion/completions/simmim-tui
    Completions(command::completions::CompletionsArgs),
    /// Print the manual page, or write one page per command into a directory
    Man(command::man::ManArgs),
    /// Compare with values that PyTorch computed
    #[command(hide = true)]
    Parity(command::parity::ParityArgs),
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
