//! The command line.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use crate::command::{
    args::{ConfigArgs, TrainArgs},
    bench, ctl, doctor, eval, export, features, finetune, import, parity, runs, shell,
};
#[cfg(feature = "tui")]
use crate::command::{attach, embed, preview};
use clap::{Parser, Subcommand};

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
    Finetune(finetune::FinetuneArgs),
    /// Show steps, learning-rate schedule, parameters and memory of a run without running it
    Plan(ConfigArgs),
    /// Time the training step and the loader; prints one JSON object
    Bench(bench::BenchArgs),
    /// Show the previews of a run, or images, in the plain shell or as PNG
    #[cfg(feature = "tui")]
    Preview(preview::PreviewArgs),
    /// The screen on a run of another process: the same keys on a live run, a replay of one that has ended
    #[cfg(feature = "tui")]
    Attach(attach::AttachArgs),
    /// Draw the features of images as points in the plane, in the terminal or as PNG
    #[cfg(feature = "tui")]
    Embed(embed::EmbedArgs),
    /// Tell what the pre-training was worth: k-NN and linear probe on labelled images, beside an untrained encoder and
    /// raw pixels
    Eval(eval::EvalArgs),
    /// Write the encoder's features of images to a file, with labels and names
    Features(features::FeaturesArgs),
    /// Write weights or metrics in the formats of timm, Hugging Face, spreadsheets and TensorBoard
    Export(export::ExportArgs),
    /// Say what model a weights file holds, as a configuration, or make a checkpoint of it; training starts from it with --init
    Import(import::ImportArgs),
    /// List runs, newest first
    Runs(runs::RunsArgs),
    /// Give an order to a run that goes on, or show how a run does
    ///
    /// Waits until the order is carried out. Exit codes: 0 done; 1 not done, or the run can't be reached; 2 usage
    Ctl(ctl::CtlArgs),
    /// What this machine and terminal can do, what is decided from it, and why
    Doctor(doctor::DoctorArgs),
    /// Print the completions of a shell
    ///
    /// bash: simmim-tui completions bash > ~/.local/share/bash-completion/completions/simmim-tui
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write one page per command into a folder
    Man(shell::ManArgs),
    /// Compare with values that PyTorch computed
    #[command(hide = true)]
    Parity(parity::ParityArgs),
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
