//! Indices of images in little memory.

/// A list of indices that takes four bytes for each as long as all of them fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Indices {
    Small(Vec<u32>),
    Large(Vec<usize>),
}

impl Indices {
    /// Returns `0..count`.
    pub fn all(count: usize) -> Self {
        match u32::try_from(count) {
            Ok(count) => Self::Small((0..count).collect()),
            Err(_) => Self::Large((0..count).collect()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Small(list) => list.len(),
            Self::Large(list) => list.len(),
        }
    }

    pub fn get(&self, at: usize) -> Option<usize> {
        match self {
            Self::Small(list) => list.get(at).map(|&index| index as usize),
            Self::Large(list) => list.get(at).copied(),
        }
    }

    pub fn swap(&mut self, one: usize, other: usize) {
        match self {
            Self::Small(list) => list.swap(one, other),
            Self::Large(list) => list.swap(one, other),
        }
    }

    pub fn push(&mut self, index: usize) {
        match (&mut *self, u32::try_from(index)) {
            (Self::Small(list), Ok(index)) => list.push(index),
            (Self::Large(list), _) => list.push(index),
            (Self::Small(list), Err(_)) => {
                let mut all: Vec<usize> = list.iter().map(|&index| index as usize).collect();
                all.push(index);
                *self = Self::Large(all);
            }
        }
    }

    /// Takes an index out; those after it move up.
    pub fn remove(&mut self, at: usize) -> usize {
        match self {
            Self::Small(list) => list.remove(at) as usize,
            Self::Large(list) => list.remove(at),
        }
    }

    pub fn sort(&mut self) {
        match self {
            Self::Small(list) => list.sort_unstable(),
            Self::Large(list) => list.sort_unstable(),
        }
    }

    /// Counts the indices below `limit` in a list that is ascending.
    pub fn count_below(&self, limit: usize) -> usize {
        match self {
            Self::Small(list) => list.partition_point(|&index| (index as usize) < limit),
            Self::Large(list) => list.partition_point(|&index| index < limit),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl FromIterator<usize> for Indices {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let indices = indices.into_iter();
        let mut list = Self::Small(Vec::with_capacity(indices.size_hint().0));
        indices.for_each(|index| list.push(index));
        match &mut list {
            Self::Small(list) => list.shrink_to_fit(),
            Self::Large(list) => list.shrink_to_fit(),
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_past_32_bits_is_kept_whole() {
        let far = (1_usize << 40) + 3;
        let mut list: Indices = [5, 4, far, 6].into_iter().collect();
        assert!(matches!(list, Indices::Large(_)));
        assert_eq!(list.iter().collect::<Vec<_>>(), [5, 4, far, 6]);
        list.sort();
        list.swap(0, 3);
        assert_eq!((list.remove(1), list.get(0), list.len()), (5, Some(far), 3));
    }

    #[test]
    fn usual_indices_take_four_bytes() {
        let mut list = Indices::all(1000);
        assert!(matches!(&list, Indices::Small(all) if all.capacity() == 1000));
        list.swap(1, 2);
        list.push(1000);
        assert_eq!((list.get(1), list.get(1000), list.get(1001)), (Some(2), Some(1000), None));
        list.sort();
        assert_eq!(list, Indices::all(1001));
    }
}
