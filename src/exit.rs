//! The exit codes of the program. There is also 0, which means "finished" or "stopped and saved".

/// The run or the command failed.
pub const FAILED: u8 = 1;
/// The command line, the configuration, or something that they name is wrong.
pub const USAGE: u8 = 2;
/// The run stopped on a loss, a gradient or a weight that is not a number.
pub const NOT_A_NUMBER: u8 = 3;
/// A second interrupt ended the process without waiting for a checkpoint.
pub const ABORTED: u8 = 130;
