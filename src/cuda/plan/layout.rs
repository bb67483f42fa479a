//! Where the buffers of a plan lie in the arena. A buffer needs its place from the first operation that names it to the
//! last one.

use super::{BufInfo, Home, Op};

/// Every buffer starts at a multiple of this.
const ALIGNMENT: usize = 256;

/// Returns the bytes that a buffer takes, with the gap up to the next one.
pub(super) fn padded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

/// Gives every buffer of the arena its offset, and returns the bytes of the whole arena. Each buffer takes the first gap
/// that is wide enough, in the order in which the operations first name them.
pub(super) fn lay_out(bufs: &mut [BufInfo], ops: &[Op]) -> usize {
    let mut last = vec![None; bufs.len()];
    for (number, op) in ops.iter().enumerate() {
        for buf in op.work.bufs() {
            last[buf.index()] = Some(number);
        }
    }
    let mut taken: Vec<(usize, usize, usize)> = Vec::new(); // start, end and last operation, by start
    let mut placed = vec![false; bufs.len()];
    let mut whole = 0;
    for (number, op) in ops.iter().enumerate() {
        taken.retain(|&(_, _, until)| until >= number);
        for buf in op.work.bufs() {
            let index = buf.index();
            let info = &mut bufs[index];
            if placed[index] || !matches!(info.home, Home::Arena(_)) {
                continue;
            }
            placed[index] = true;
            let bytes = padded(info.bytes());
            let (mut start, mut at) = (0, taken.len());
            for (place, &(begin, end, _)) in taken.iter().enumerate() {
                if begin >= start + bytes {
                    at = place;
                    break;
                }
                start = start.max(end);
            }
            let until =
                if info.kept { usize::MAX } else { last[index].expect("this operation names it") };
            taken.insert(at, (start, start + bytes, until));
            info.home = Home::Arena(start);
            whole = whole.max(start + bytes);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::{Arg, Buf, Element, StepPhase, Work};
    use super::*;
    use crate::cuda::geometry::Geometry;

    fn buf(len: usize, kept: bool) -> BufInfo {
        BufInfo { kind: Element::U8, len, home: Home::Arena(0), kept }
    }

    fn op(bufs: &[u32]) -> Op {
        let args = bufs.iter().map(|&number| Arg::Buf(Buf(number))).collect();
        let geometry = Geometry { grid: [1; 3], block: 32, shared: 0 };
        let work = Work::Kernel { name: "any", geometry, args };
        Op { phase: StepPhase::Encode, place: String::new(), work }
    }

    fn offsets(bufs: &[BufInfo]) -> Vec<usize> {
        let offset = |info: &BufInfo| match info.home {
            Home::Arena(offset) => offset,
            other => panic!("{other:?}"),
        };
        bufs.iter().map(offset).collect()
    }

    #[test]
    fn places_are_used_again_when_nobody_needs_them_any_more() {
        let mut bufs = [buf(300, false), buf(10, false), buf(500, false), buf(256, false)];
        let whole = lay_out(&mut bufs, &[op(&[0, 1]), op(&[1, 2]), op(&[2, 3])]);
        assert_eq!(offsets(&bufs), [0, 512, 0, 512]);
        assert_eq!(whole, 768);
    }

    #[test]
    fn what_is_read_after_the_run_keeps_its_place() {
        let mut bufs = [buf(256, true), buf(256, false), buf(256, false)];
        let whole = lay_out(&mut bufs, &[op(&[0, 1]), op(&[2])]);
        assert_eq!(offsets(&bufs), [0, 256, 256]);
        assert_eq!(whole, 512);
    }

    #[test]
    fn buffers_that_are_needed_at_once_never_overlap() {
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut bufs: Vec<BufInfo> = (0..60).map(|_| buf(random(2000) as usize, false)).collect();
        let ops: Vec<Op> = (0..80).map(|_| op(&[random(60), random(60), random(60)])).collect();
        lay_out(&mut bufs, &ops);
        let span = |index: u32| {
            let uses = |(_, op): &(usize, &Op)| op.work.bufs().contains(&Buf(index));
            let mut numbers = ops.iter().enumerate().filter(uses).map(|(number, _)| number);
            let first = numbers.next()?;
            Some((first, numbers.next_back().unwrap_or(first)))
        };
        for a in 0..60 {
            for b in 0..a {
                let (Some(in_a), Some(in_b)) = (span(a), span(b)) else { continue };
                if in_a.0 <= in_b.1 && in_b.0 <= in_a.1 {
                    let [low, high] = [a, b].map(|number| {
                        let start = offsets(&bufs)[number as usize];
                        start..start + bufs[number as usize].len.max(1)
                    });
                    assert!(low.end <= high.start || high.end <= low.start, "{a} and {b}");
                }
            }
        }
    }
}
