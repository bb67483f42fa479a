//! Asks the terminal what it can show, with a deadline because many never answer.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{self, Stdin, Write};
use std::time::{Duration, Instant};

/// Asks about two kitty pictures of one pixel, the second in a file that doesn't exist, and then for the primary
/// device attributes. Nearly all terminals answer the last question, after which nothing more comes.
///
/// The file is there because `viuer` asks about one too, and waits for ever if the terminal doesn't answer.
const QUERY: &[u8] = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\
    \x1b_Gi=32,s=1,v=1,a=q,t=t;L3RtcC90dHktZ3JhcGhpY3MtcHJvdG9jb2wtbm9uZQ==\x1b\\\x1b[c";
const INTERRUPT: u8 = 3;

/// What the terminal has answered so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Whether it shows pictures by the kitty protocol and has answered about the file.
    pub kitty: bool,
    /// Whether the device attributes have come, the last part of the answer.
    pub complete: bool,
    /// Whether Ctrl-C was typed.
    pub interrupted: bool,
}

/// Asks the terminal and waits at most `patience`. `stdin` and `out` must be the terminal. Keys that are typed
/// meanwhile are lost.
///
/// # Errors
/// If the terminal can't be set up, written or read. Ctrl-C gives the kind `Interrupted`.
pub(crate) fn ask(stdin: &Stdin, out: &mut impl Write, patience: Duration) -> io::Result<Answer> {
    let _quiet = Quiet::new(stdin)?;
    out.write_all(QUERY)?;
    out.flush()?;
    let deadline = Instant::now() + patience;
    let mut received = Vec::new();
    let mut answer = Answer::default();
    while !answer.complete && !answer.interrupted {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { break };
        let mut fds = [PollFd::new(stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut chunk = [0; 256];
        match read(stdin, &mut chunk)? {
            0 => break,
            count => received.extend_from_slice(&chunk[..count]),
        }
        answer = parse(&received);
    }
    if answer.interrupted { Err(io::ErrorKind::Interrupted.into()) } else { Ok(answer) }
}

/// Reads the replies in everything received so far. Typed keys and incomplete replies may be among them.
pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let (mut pictures, mut files, mut complete) = (false, false, false);
    for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == 0x1b) {
        let rest = &bytes[at + 1..];
        if let Some(body) = rest.strip_prefix(b"_G") {
            let end = body.windows(2).position(|pair| pair == b"\x1b\\");
            let reply = end.map_or(&b""[..], |end| &body[..end]);
            let (id, message) = split(reply);
            pictures |= id == b"i=31" && message == b"OK";
            files |= id == b"i=32";
        } else if let Some(body) = rest.strip_prefix(b"[?") {
            let end = body.iter().position(|byte| !byte.is_ascii_digit() && *byte != b';');
            complete |= end.is_some_and(|end| body[end] == b'c');
        }
    }
    Answer { kitty: pictures && files, complete, interrupted: bytes.contains(&INTERRUPT) }
}

/// Returns the picture's `i=ID` and the message of a reply such as `i=31,p=1;OK`.
fn split(reply: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = reply.splitn(2, |&byte| byte == b';');
    let keys = parts.next().unwrap_or_default();
    let id = keys.split(|&byte| byte == b',').find(|key| key.starts_with(b"i="));
    (id.unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The terminal's former settings. Dropping them puts them back.
struct Quiet<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Quiet<'a> {
    /// Turns off echo, line input and signals. Ctrl-C then comes as a byte: as a signal it would leave the terminal in
    /// this mode.
    fn new(stdin: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin, OptionalActions::Now, &quiet)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.stdin, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KITTY: &[u8] = b"\x1b_Gi=31;OK\x1b\\\x1b_Gi=32;EBADF:none\x1b\\\x1b[?62;c";

    #[test]
    fn replies_tell_kitty_from_others() {
        let table: [(&[u8], bool, bool); 11] = [
            (KITTY, true, true),
            (b"\x1b[?62;22c\x1b_Gi=32;ENOENT\x1b\\\x1b_Gi=31;OK\x1b\\", true, true),
            (b"\x1b_Gi=31,p=1;OK\x1b\\\x1b_Gp=1,i=32;OK\x1b\\", true, false),
            (b"\x1b_Gi=31;OK\x1b\\\x1b[?6c", false, true),
            (b"\x1b[?1;2c", false, true),
            (b"\x1b_Gi=31;ENOTSUPPORTED:no\x1b\\\x1b_Gi=32;E\x1b\\\x1b[?6c", false, true),
            (b"\x1b_Gi=32;OK\x1b\\\x1b[?6c", false, true),
            (b"abc\x1b\x1b[?6c", false, true),
            (b"\x1b[?6n", false, false),
            (b"\x1b_Gi=31;OK", false, false),
            (b"", false, false),
        ];
        for (bytes, kitty, complete) in table {
            let expected = Answer { kitty, complete, interrupted: false };
            assert_eq!(parse(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_reply_in_pieces_is_complete_at_its_last_byte() {
        let attributes = b"\x1b[?62;c".len();
        for len in 0..=KITTY.len() {
            let answer = parse(&KITTY[..len]);
            assert_eq!(answer.complete, len == KITTY.len(), "after {len} bytes");
            assert_eq!(answer.kitty, len >= KITTY.len() - attributes, "after {len} bytes");
        }
    }

    #[test]
    fn keys_between_replies_do_no_harm_and_ctrl_c_is_seen() {
        assert!(parse(b"q\x1b_Gi=31;OK\x1b\\jj\x1b_Gi=32;E\x1b\\q\x1b[?62;c").kitty);
        assert!(parse(b"\x03").interrupted);
    }
}
