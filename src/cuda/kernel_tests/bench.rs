//! Launches kernels on any machine, with everything around them watched.

use super::super::emulated::{Emulated, signatures};
use super::super::geometry::Geometry;
use super::super::machine::{Address, Fault, KernelArg, Launch, Machine};
use half::bf16;

/// What a kernel's operands are: the kernels come in pairs, `name` and `name_f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Bf16,
    F32,
}

pub(crate) const BOTH: [Op; 2] = [Op::Bf16, Op::F32];

/// Rounding to bf16 moves a number by at most this share of it, half a unit in the last of 8 bits.
const ROUND: f64 = 1.01 / 256.0;

impl Op {
    /// Returns the name of the kernel with operands of this kind.
    pub(crate) fn name(self, name: &str) -> String {
        name.to_owned() + if self == Op::F32 { "_f32" } else { "" }
    }

    pub(crate) fn data(self, numbers: &[f64]) -> Data {
        match self {
            Op::F32 => Data::f32(numbers),
            Op::Bf16 => Data::Bf16(numbers.iter().map(|x| bf16::from_f32(*x as f32)).collect()),
        }
    }

    pub(crate) fn out(self, count: usize) -> Arg {
        Arg::Out(self.data(&vec![0.0; count]))
    }

    /// Returns the share of a number that is lost when it is stored.
    pub(crate) fn round(self) -> f64 {
        if self == Op::Bf16 { ROUND } else { 0.0 }
    }
}

/// Numbers as they lie in a machine's memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    I32(Vec<i32>),
    U8(Vec<u8>),
}

impl Data {
    pub(crate) fn f32(numbers: &[f64]) -> Self {
        Self::F32(numbers.iter().map(|x| *x as f32).collect())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(all) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16(all) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::I32(all) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::U8(all) => all.clone(),
        }
    }

    /// Returns data of this type from the bytes of a machine.
    fn read_from(&self, bytes: &[u8]) -> Self {
        let word = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        match self {
            Self::F32(_) => {
                Self::F32(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(word(b))).collect())
            }
            Self::I32(_) => {
                Self::I32(bytes.chunks_exact(4).map(|b| i32::from_le_bytes(word(b))).collect())
            }
            Self::Bf16(_) => Self::Bf16(
                bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect(),
            ),
            Self::U8(_) => Self::U8(bytes.to_vec()),
        }
    }

    pub(crate) fn numbers(&self) -> Vec<f64> {
        match self {
            Self::F32(all) => all.iter().map(|x| f64::from(*x)).collect(),
            Self::Bf16(all) => all.iter().map(|x| x.to_f64()).collect(),
            Self::I32(all) => all.iter().map(|x| f64::from(*x)).collect(),
            Self::U8(all) => all.iter().map(|x| f64::from(*x)).collect(),
        }
    }
}

/// One value of a launch.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    In(Data),
    /// Data of this type and length, whose memory is full of NaN before.
    Out(Data),
    /// Data that is there before, and other data after.
    InOut(Data),
    /// The memory of the argument at this place.
    Same(usize),
    Null,
    Int(usize),
    Long(usize),
    Float(f64),
}

pub(crate) fn out(count: usize) -> Arg {
    Op::F32.out(count)
}

/// Returns the data, or no address.
pub(crate) fn maybe(data: Option<&Data>) -> Arg {
    data.map_or(Arg::Null, |data| Arg::In(data.clone()))
}

/// A machine to test kernels on.
pub(crate) enum TestMachine {
    Emulated(Box<Emulated>),
    /// Where nobody can say which threads run first.
    Other(Box<dyn Machine>),
}

impl TestMachine {
    pub(crate) fn machine(&mut self) -> &mut dyn Machine {
        match self {
            Self::Emulated(machine) => machine.as_mut(),
            Self::Other(machine) => machine.as_mut(),
        }
    }
}

/// Launches kernels, compares what they write, and draws numbers for them.
pub(crate) struct Bench {
    pub device: TestMachine,
    /// Orders of threads that each launch is repeated in.
    pub orders: u8,
    /// Whether two threads that meet in memory are a fault: the emulator must watch for races.
    pub watches: bool,
    state: u64,
}

impl Bench {
    pub(crate) fn new(device: TestMachine, orders: u8) -> Self {
        Self { device, orders, watches: false, state: 1 }
    }

    pub(crate) fn multiprocessors(&mut self) -> usize {
        self.device.machine().facts().multiprocessors
    }

    /// Returns a number that is spread evenly over 0..1 (`SplitMix64`).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns normally distributed numbers as 32-bit floats hold them.
    pub(crate) fn normal(&mut self, count: usize, scale: f64) -> Vec<f64> {
        let mut draw = || {
            let size = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            let number = size * (2.0 * std::f64::consts::PI * self.uniform()).cos();
            f64::from((scale * number) as f32)
        };
        (0..count).map(|_| draw()).collect()
    }

    /// Returns normally distributed operands, and the numbers that are left of them.
    pub(crate) fn operands(&mut self, op: Op, count: usize, scale: f64) -> (Data, Vec<f64>) {
        let data = op.data(&self.normal(count, scale));
        let numbers = data.numbers();
        (data, numbers)
    }

    /// Returns as many whole numbers below `below`, in their order, each once.
    pub(crate) fn some_of(&mut self, count: usize, below: usize) -> Vec<usize> {
        let mut left = count;
        let pick = |i: &usize| {
            let picked = self.uniform() * ((below - i) as f64) < left as f64;
            left -= usize::from(picked);
            picked
        };
        (0..below).filter(pick).collect()
    }

    /// Puts data into memory of its own. It is there until the machine ends.
    pub(crate) fn upload(&mut self, data: &Data) -> Result<Address, Fault> {
        let bytes = data.bytes();
        let machine = self.device.machine();
        let at = machine.allocate(bytes.len())?;
        machine.write(at, &bytes)?;
        Ok(at)
    }

    /// Returns what an address holds, in the type and length of `like`.
    pub(crate) fn download(&mut self, at: Address, like: &Data) -> Result<Data, Fault> {
        let mut bytes = like.bytes();
        self.device.machine().read(at, &mut bytes)?;
        Ok(like.read_from(&bytes))
    }

    /// Launches a kernel in several orders of threads, which must give the same bits and leave the inputs alone. Returns what
    /// it wrote: all [`Arg::Out`] and [`Arg::InOut`] in their order.
    pub(crate) fn run(
        &mut self,
        kernel: &str,
        geometry: Geometry,
        args: &[Arg],
    ) -> Result<Vec<Data>, Fault> {
        let mut first = None;
        for order in 0..self.orders {
            if let TestMachine::Emulated(machine) = &mut self.device {
                machine.set_order(order);
            }
            let written = self.run_once(kernel, geometry, args)?;
            let bytes: Vec<Vec<u8>> = written.iter().map(Data::bytes).collect();
            match &first {
                None => first = Some((written, bytes)),
                Some((_, before)) if *before != bytes => {
                    let what = "another order of threads gives other bits";
                    return Err(Fault(format!("{kernel}: {what}")));
                }
                Some(_) => {}
            }
        }
        Ok(first.map(|(written, _)| written).unwrap_or_default())
    }

    fn run_once(
        &mut self,
        kernel: &str,
        geometry: Geometry,
        args: &[Arg],
    ) -> Result<Vec<Data>, Fault> {
        let known = signatures().iter().find(|signature| signature.name == kernel);
        let known = known.ok_or_else(|| Fault(format!("no kernel is called {kernel}")))?;
        let mut places = vec![0; args.len()];
        for (place, arg) in places.iter_mut().zip(args) {
            match arg {
                Arg::In(data) | Arg::InOut(data) => *place = self.upload(data)?,
                Arg::Out(data) => *place = self.poisoned(data)?,
                _ => {}
            }
        }
        let value = |(i, arg): (usize, &Arg)| match arg {
            Arg::Same(other) => KernelArg::Address(places[*other]),
            Arg::Int(number) => KernelArg::Int(*number as i32),
            Arg::Long(number) => KernelArg::Long(*number as i64),
            Arg::Float(number) => KernelArg::Float(*number as f32),
            _ => KernelArg::Address(places[i]),
        };
        let values = args.iter().enumerate().map(value).collect();
        let Geometry { grid, block, shared } = geometry;
        let machine = self.device.machine();
        machine.launch(&Launch { kernel: &known.name, grid, block, shared, values })?;
        machine.sync()?;
        self.check_races()?;
        let mut written = Vec::new();
        for (i, (arg, at)) in args.iter().zip(&places).enumerate() {
            match arg {
                Arg::Out(data) | Arg::InOut(data) => written.push(self.download(*at, data)?),
                Arg::In(data) if self.download(*at, data)?.bytes() != data.bytes() => {
                    return Err(Fault(format!("{kernel} changed its input {}", known.names[i])));
                }
                _ => {}
            }
            if matches!(arg, Arg::In(_) | Arg::InOut(_) | Arg::Out(_)) {
                self.device.machine().release(*at);
            }
        }
        Ok(written)
    }

    fn check_races(&mut self) -> Result<(), Fault> {
        let (true, TestMachine::Emulated(machine)) = (self.watches, &mut self.device) else {
            return Ok(());
        };
        let report = machine.races()?;
        let conflict = report.lines().find(|line| line.starts_with("conflict"));
        conflict.map_or(Ok(()), |line| Err(Fault(machine.place(line))))
    }

    fn poisoned(&mut self, like: &Data) -> Result<Address, Fault> {
        let bytes = like.bytes().len();
        let machine = self.device.machine();
        let at = machine.allocate(bytes)?;
        machine.write(at, &vec![0xFF; bytes])?;
        Ok(at)
    }
}

/// Checks |got − want| <= absolute · largest + relative · |want| for all numbers.
pub(crate) fn close(
    what: &str,
    got: &Data,
    want: &[f64],
    absolute: f64,
    relative: f64,
) -> Result<(), Fault> {
    close_numbers(what, &got.numbers(), want, absolute, relative)
}

/// Does the same for numbers that are partial sums, added up.
pub(crate) fn close_sums(
    what: &str,
    parts: &Data,
    want: &[f64],
    absolute: f64,
) -> Result<(), Fault> {
    let sums = super::super::host::sum_rows(&parts.numbers(), want.len());
    close_numbers(what, &sums, want, absolute, 0.0)
}

pub(crate) fn close_numbers(
    what: &str,
    got: &[f64],
    want: &[f64],
    absolute: f64,
    relative: f64,
) -> Result<(), Fault> {
    let fault = |text: String| Err(Fault(format!("{what}: {text}")));
    if got.len() != want.len() {
        return fault(format!("{} numbers instead of {}", got.len(), want.len()));
    }
    let largest = want.iter().fold(1e-30_f64, |most, x| most.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let share = (got - want).abs() / (absolute * largest + relative * want.abs());
        if got.is_nan() {
            return fault(format!("number {i} is NaN or not written"));
        }
        if share > 1.0 {
            let text = format!("number {i} is {got}, not {want}: {share:.3} times what is allowed");
            return fault(text);
        }
    }
    Ok(())
}
