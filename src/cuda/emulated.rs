//! The kernels on the CPU: a program that g++ builds from their own source and `emulator/`, which plays the GPU.
//!
//! It is a process of its own, so what a kernel does wrong (an access outside of the buffers, a barrier that not all threads
//! reach) ends that process and comes back as a [`Fault`] with its last words.

mod build;

use super::machine::{
    Address, Arithmetic, Facts, Fault, KernelArg, Launch, Machine, Number, Operands, ProductShape,
};
use super::signature::{Signature, parse};
use build::EmulatorKind;
pub(crate) use build::{barriers, without_compiler};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// Returns the kernels of both sources.
pub(crate) fn signatures() -> &'static [Signature] {
    static ALL: OnceLock<Vec<Signature>> = OnceLock::new();
    ALL.get_or_init(|| build::SOURCES.iter().flat_map(|(_, source)| parse(source)).collect())
}

/// What is special about an emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trait {
    /// Nothing.
    Exact,
    /// Sums on tensor cores, exponentials, logarithms and reciprocals are as inexact as a GPU's may be.
    Inexact,
    /// It watches every read and write for races, slowly. The barrier of this number is left out; they count from 1.
    Watches { missing: usize },
}

/// A running emulator.
pub(crate) struct Emulated {
    program: PathBuf,
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    facts: Facts,
    alignment: u32,
    order: u8,
    failed: Option<Fault>,
}

impl Emulated {
    /// Starts an emulator of a GPU with these facts.
    ///
    /// # Errors
    /// If it can't be built or started.
    pub(crate) fn new(facts: Facts) -> Result<Self, Fault> {
        Self::start(facts, Trait::Exact)
    }

    /// Starts one with a trait.
    ///
    /// # Errors
    /// If it can't be built or started.
    pub(crate) fn start(facts: Facts, own: Trait) -> Result<Self, Fault> {
        let (kind, inexact, missing) = match own {
            Trait::Exact => (EmulatorKind::Plain, 0, 0),
            Trait::Inexact => (EmulatorKind::Plain, 1, 0),
            Trait::Watches { missing } => (EmulatorKind::Races, 0, missing),
        };
        let program = build::program(kind)?;
        let mut child = Command::new(&program)
            .args([inexact, missing].map(|number: usize| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Fault(format!("{} doesn't start: {error}", program.display())))?;
        let to = child.stdin.take();
        let from = child.stdout.take().expect("stdout is a pipe");
        Ok(Self { program, child, to, from, facts, alignment: 256, order: 0, failed: None })
    }

    /// Puts the ends of buffers as near to the forbidden page behind them as kernels can bear it: they are aligned to 16
    /// bytes only from here on.
    pub(crate) fn tighten(&mut self) {
        self.alignment = 16;
    }

    /// Sets which threads run first: 0 in order, 1 backwards, 2 mixed, 3 mixed with copies that land at once.
    pub(crate) fn set_order(&mut self, order: u8) {
        self.order = order;
    }

    /// Returns what an emulator that watches for races has seen, in the lines of `races.h`.
    pub(crate) fn races(&mut self) -> Result<String, Fault> {
        self.report(8)
    }

    /// Returns a line of that report with the lines of the source in place of the address, if `addr2line` is there.
    pub(crate) fn place(&self, conflict: &str) -> String {
        let address = conflict.split('\t').nth(4).and_then(|at| at.parse::<u64>().ok());
        let Some(address) = address.and_then(|at| at.checked_sub(1)) else {
            return conflict.to_owned();
        };
        let mut asked = Command::new("addr2line");
        asked.args(["-i", "-s", "-e"]).arg(&self.program).arg(format!("{address:#x}"));
        let found = asked.output().map(|output| output.stdout).unwrap_or_default();
        let lines = String::from_utf8_lossy(&found);
        let lines: Vec<&str> = lines.lines().filter(|line| line.contains(".cu:")).collect();
        format!("{conflict} at {}", lines.join(" from "))
    }

    /// Returns the rules that its detector of races doesn't keep, a line each.
    pub(crate) fn broken_rules(&mut self) -> Result<String, Fault> {
        self.report(9)
    }

    fn report(&mut self, command: u8) -> Result<String, Fault> {
        self.ask(&[command], &[])?;
        self.text()
    }

    /// Sends a command, and reads the first byte of its answer.
    fn ask(&mut self, command: &[u8], more: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        let mut pipe = self.to.as_ref().expect("stdin is open until the end");
        let sent = pipe.write_all(command).and_then(|()| pipe.write_all(more));
        let mut answer = [0];
        if sent.and_then(|()| self.from.read_exact(&mut answer)).is_err() {
            return Err(self.last_words());
        }
        if answer[0] == 0 { Ok(()) } else { Err(Fault(self.text()?)) }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.from.read_exact(bytes).map_err(|_| self.last_words())
    }

    fn text(&mut self) -> Result<String, Fault> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let mut letters = vec![0; u32::from_le_bytes(length) as usize];
        self.take(&mut letters)?;
        Ok(String::from_utf8_lossy(&letters).into_owned())
    }

    /// Returns why the emulator has ended. Nothing works from here on.
    fn last_words(&mut self) -> Fault {
        let mut said = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            let _ = pipe.read_to_string(&mut said);
        }
        let said = said.trim();
        let fault = if said.is_empty() {
            let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
            Fault(format!("the emulator ended: {status}"))
        } else {
            Fault(said.to_owned())
        };
        self.failed = Some(fault.clone());
        fault
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // It ends when there is nothing more to read.
        self.to.take();
        let _ = self.child.wait();
    }
}

/// A command and its numbers.
fn command(code: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![code];
    bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    bytes
}

impl Machine for Emulated {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, Fault> {
        let mut message = command(1, &[bytes as u64]);
        message.extend(self.alignment.to_ne_bytes());
        self.ask(&message, &[])?;
        let mut at = [0; 8];
        self.take(&mut at)?;
        Ok(u64::from_ne_bytes(at))
    }

    fn release(&mut self, at: Address) {
        // Whoever gives back what it never had finds out by the next command.
        if let Err(fault) = self.ask(&command(2, &[at]), &[]) {
            self.failed.get_or_insert(fault);
        }
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.ask(&command(3, &[at, bytes.len() as u64]), bytes)
    }

    fn read(&mut self, at: Address, bytes: &mut [u8]) -> Result<(), Fault> {
        self.ask(&command(4, &[at, bytes.len() as u64]), &[])?;
        self.take(bytes)
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), Fault> {
        self.ask(&command(5, &[at, bytes as u64]), &[])
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Fault> {
        let known = signatures().iter().find(|signature| signature.name == launch.kernel);
        known
            .ok_or_else(|| Fault(format!("no kernel is called {}", launch.kernel)))?
            .check(launch)?;
        let mut message = vec![6, launch.kernel.len() as u8];
        message.extend(launch.kernel.as_bytes());
        let [x, y, z] = launch.grid;
        message.extend([x, y, z, launch.block, launch.shared].iter().flat_map(|n| n.to_ne_bytes()));
        message.extend([self.order, launch.values.len() as u8]);
        for value in &launch.values {
            let bits = match *value {
                KernelArg::Address(address) => address,
                KernelArg::Int(number) => u64::from(number.cast_unsigned()),
                KernelArg::Long(number) => number.cast_unsigned(),
                KernelArg::Float(number) => u64::from(number.to_bits()),
            };
            message.extend(bits.to_ne_bytes());
        }
        self.ask(&message, &[])
    }

    fn product(&mut self, shape: ProductShape, operands: Operands) -> Result<(), Fault> {
        if !self.facts.library {
            return Err(Fault("this GPU has no library of products".to_owned()));
        }
        let flags = [
            shape.a_transposed,
            shape.b_transposed,
            shape.arithmetic == Arithmetic::Bf16,
            shape.result == Number::Bf16,
            shape.bias,
            shape.add,
        ];
        let flags = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag));
        let mut message = vec![7];
        let sizes = [shape.m as u32, shape.n as u32, shape.k as u32, flags];
        message.extend(sizes.iter().flat_map(|number| number.to_ne_bytes()));
        let Operands { a, b, c, d, bias } = operands;
        message.extend([a, b, c, d, bias].iter().flat_map(|address| address.to_ne_bytes()));
        self.ask(&message, &[])
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}
