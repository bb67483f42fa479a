//! Names of many images in little memory.

use std::ops::Range;

/// Names in a fixed order, each in a group: files in folders, or members of shards. A name takes its own bytes and four
/// more; the name of a group is kept once.
#[derive(Default)]
pub(super) struct Names {
    groups: Vec<Box<[u8]>>,
    runs: Vec<Run>,
    /// All names, one after the other.
    bytes: Vec<u8>,
    /// Where each name ends in [`Self::bytes`], counted from the start of its run.
    ends: Vec<u32>,
}

/// Consecutive names of one group. A run is over before its names take 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Number of its first name.
    first: usize,
    group: usize,
    /// Where its first name starts in the bytes.
    start: usize,
}

impl Names {
    /// Returns an empty list with room for so many names that take so many bytes together.
    pub fn with_capacity(names: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(names),
            ..Self::default()
        }
    }

    /// Adds a group and returns its number.
    pub fn add_group(&mut self, name: &[u8]) -> usize {
        self.groups.push(name.into());
        self.groups.len() - 1
    }

    /// Adds a name to a group. Of one that takes more than 4 GiB, which no file system and no archive has, the start is
    /// kept.
    pub fn push(&mut self, group: usize, name: &[u8]) {
        self.push_limited(group, name, u32::MAX as usize);
    }

    fn push_limited(&mut self, group: usize, name: &[u8], limit: usize) {
        let name = &name[..name.len().min(limit)];
        let start = match self.runs.last() {
            Some(run)
                if run.group == group && self.bytes.len() - run.start + name.len() <= limit =>
            {
                run.start
            }
            _ => {
                let start = self.bytes.len();
                self.runs.push(Run { first: self.ends.len(), group, start });
                start
            }
        };
        self.bytes.extend_from_slice(name);
        self.ends.push((self.bytes.len() - start) as u32); // at most `limit`
    }

    /// Gives back memory that was reserved and isn't used.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.runs.shrink_to_fit();
        self.groups.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns the name of a group, which is empty if there is no such group.
    pub fn group_name(&self, group: usize) -> &[u8] {
        self.groups.get(group).map_or(&[], |name| name)
    }

    /// Returns the group of a name.
    pub fn group(&self, index: usize) -> Option<usize> {
        (index < self.len()).then(|| self.run(index).group)
    }

    /// Returns the group of a name, and the name.
    pub fn get(&self, index: usize) -> Option<(usize, &[u8])> {
        if index >= self.len() {
            return None;
        }
        let run = self.run(index);
        Some((run.group, &self.bytes[self.place(run, index)]))
    }

    fn run(&self, index: usize) -> Run {
        self.runs[self.runs.partition_point(|run| run.first <= index) - 1]
    }

    fn place(&self, run: Run, index: usize) -> Range<usize> {
        let before = if index == run.first { 0 } else { self.ends[index - 1] as usize };
        run.start + before..run.start + self.ends[index] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_in_order_with_their_groups() {
        let mut names = Names::default();
        let (root, inner) = (names.add_group(b""), names.add_group(b"in\xffner"));
        let all: [(usize, &[u8]); 6] = [
            (root, b"a"),
            (root, b""),
            (inner, b"b.png"),
            (inner, b"c"),
            (root, b"z"),
            (inner, b""),
        ];
        for (group, name) in all {
            names.push(group, name);
        }
        names.shrink();
        for (index, expected) in all.into_iter().enumerate() {
            assert_eq!(names.get(index), Some(expected));
            assert_eq!(names.group(index), Some(expected.0));
        }
        assert_eq!((names.len(), names.get(6), names.group(6)), (6, None, None));
        assert_eq!((names.groups(), names.group_name(inner)), (2, &b"in\xffner"[..]));
        assert!(names.group_name(7).is_empty() && Names::default().is_empty());
    }

    #[test]
    fn no_offset_wraps_where_names_outgrow_it() {
        let mut names = Names::default();
        let group = names.add_group(b"g");
        let all: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n % 7)]).collect();
        for name in &all {
            names.push_limited(group, name, 10);
        }
        assert!(names.runs.len() > 20, "a run ends at 10 bytes");
        for (index, name) in all.iter().enumerate() {
            assert_eq!(names.get(index), Some((group, &name[..])));
        }
        names.push_limited(group, &[1; 30], 10);
        assert_eq!(names.get(100), Some((group, &[1; 10][..])));
    }

    #[test]
    fn a_name_takes_its_bytes_and_four_more() {
        let mut names = Names::with_capacity(1000, 25_000);
        let group = names.add_group(b"g");
        for _ in 0..1000 {
            names.push(group, &[b'n'; 25]);
        }
        assert_eq!((names.bytes.capacity(), names.ends.capacity()), (25_000, 1000));
        assert_eq!(names.runs.len(), 1);
    }
}
