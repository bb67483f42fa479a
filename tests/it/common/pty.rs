//! The program on a pseudo-terminal whose contents a test can read. Like some real terminals, it never answers queries.

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The time after which a wait has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// ICANON and ECHO of `termios.h`: the terminal passes on whole lines and shows typed characters.
const COOKED: u64 = 0o2 | 0o10;

/// The bytes that the program has written, and the screen that they produce.
struct Shown {
    bytes: Vec<u8>,
    parser: vt100::Parser,
}

pub struct Tty {
    master: Box<dyn MasterPty + Send>,
    slave: Option<Box<dyn SlavePty + Send>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    shown: Arc<Mutex<Shown>>,
    reader: Option<JoinHandle<()>>,
}

/// How the program left its terminal.
#[derive(Debug)]
pub struct Left {
    pub code: u32,
    pub bytes: Vec<u8>,
    /// The text that is on the terminal afterwards.
    pub text: String,
    alternate: bool,
    cursor_hidden: bool,
    cooked: bool,
}

impl Left {
    /// Fails unless the program exited with `code` and restored the terminal.
    pub fn expect(self, code: u32) -> Self {
        assert_eq!(self.code, code, "the exit code; it said {}", self.text);
        assert!(!self.text.contains("panicked"), "nothing panics: {}", self.text);
        self.terminal_is_back();
        self
    }

    /// Fails unless the program restored the terminal.
    pub fn terminal_is_back(&self) {
        assert!(!self.alternate, "the alternate screen is left");
        assert!(!self.cursor_hidden, "the cursor is shown");
        assert!(self.cooked, "typed lines are shown again");
    }

    pub fn has(&self, bytes: &[u8]) -> bool {
        self.bytes.windows(bytes.len()).any(|window| window == bytes)
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

fn nonzero(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a size")
}

impl Tty {
    /// Starts the program in `folder`. Its environment is that of a capable terminal, in which the variables of `env`
    /// are then set or removed.
    pub fn start(
        folder: &Path,
        arguments: &[&str],
        size: (u16, u16),
        env: &[(&str, Option<&str>)],
    ) -> Self {
        Self::start_program(env!("CARGO_BIN_EXE_simmim-tui").as_ref(), folder, arguments, size, env)
    }

    /// Starts another program in the same way.
    pub fn start_program(
        program: &Path,
        folder: &Path,
        arguments: &[&str],
        (columns, rows): (u16, u16),
        env: &[(&str, Option<&str>)],
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).expect("a terminal");
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.cwd(folder);
        let usual = [
            ("TERM", Some("xterm-256color")),
            ("COLORTERM", Some("truecolor")),
            ("LC_ALL", Some("C.UTF-8")),
            ("NO_COLOR", None),
            ("TMUX", None),
            ("TERM_PROGRAM", None),
        ];
        for (name, value) in usual.iter().chain(env) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            }
        }
        let child = pair.slave.spawn_command(command).expect("the program starts");
        let mut from = pair.master.try_clone_reader().expect("the terminal can be read");
        let keyboard = pair.master.take_writer().expect("the terminal has a keyboard");
        let parser = vt100::Parser::new(nonzero(rows), nonzero(columns), 0);
        let shown = Arc::new(Mutex::new(Shown { bytes: Vec::new(), parser }));
        let sink = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut shown = sink.lock().unwrap_or_else(PoisonError::into_inner);
                shown.bytes.extend_from_slice(&buffer[..count]);
                shown.parser.process(&buffer[..count]);
            }
        });
        let (master, slave, reader) = (pair.master, Some(pair.slave), Some(reader));
        Self { master, slave, keyboard, child, shown, reader }
    }

    fn look<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the characters on the screen.
    pub fn text(&self) -> String {
        self.look(|shown| shown.parser.screen().contents())
    }

    /// Returns the number of bytes that the program has written.
    pub fn written(&self) -> usize {
        self.look(|shown| shown.bytes.len())
    }

    /// Waits until a condition holds. Fails and prints the screen if the condition never holds.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(self) {
            let late = Instant::now() > end;
            let ended = self.child.try_wait().expect("it can be waited for");
            // The last bytes of the program may not have been read yet.
            if late || ended.is_some() {
                thread::sleep(Duration::from_millis(100));
                let text = self.text();
                assert!(condition(self), "waited in vain until {what}; {ended:?}; screen:\n{text}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn until_shown(&mut self, text: &str) {
        self.until(&format!("{text:?} is shown"), |tty| tty.text().contains(text));
    }

    pub fn until_hidden(&mut self, text: &str) {
        self.until(&format!("{text:?} is gone"), |tty| !tty.text().contains(text));
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
        self.keyboard.flush().expect("the terminal takes keys");
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.parser.screen_mut().set_size(nonzero(rows), nonzero(columns));
        self.master.resize(size(columns, rows)).expect("the terminal takes a size");
    }

    /// Sends signals by name, in quick succession. The program may end before it receives all of them.
    pub fn signal(&self, names: &[&str]) {
        let id = self.child.process_id().expect("it runs");
        let commands: Vec<String> = names.iter().map(|name| format!("kill -{name} {id}")).collect();
        let command = commands.join("; ") + "; true";
        let status = std::process::Command::new("sh").args(["-c", &command]).status();
        assert!(status.expect("a shell").success(), "the process takes {names:?}");
    }

    fn cooked(&self) -> bool {
        let termios = self.master.get_termios().expect("a terminal has settings");
        u64::from(termios.local_flags.bits()) & COOKED == COOKED
    }

    /// Waits until the program ends.
    pub fn end(mut self) -> Left {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(Instant::now() < end, "waited in vain for the end; screen:\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), None, "no signal ended it: {}", self.text());
        let cooked = self.cooked();
        drop(self.slave.take());
        self.reader.take().expect("ended once").join().expect("the reader doesn't panic");
        self.look(|shown| Left {
            code: status.exit_code(),
            bytes: shown.bytes.clone(),
            text: shown.parser.screen().contents(),
            alternate: shown.parser.screen().alternate_screen(),
            cursor_hidden: shown.parser.screen().hide_cursor(),
            cooked,
        })
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}
