//! Reads single values out of a page, without reading all of it again.
//!
//! Programs that write images put those of a whole row group into one page, of 5 to 100 MiB. When such a page has been
//! read once, it is known where each value lies. An uncompressed one can then be read by itself. Snappy compresses
//! 64 KiB at a time, so that of a page it compressed only those pieces are read that a value lies in.

use super::pages::{Fetched, read_at};
use parquet::basic::Compression;
use parquet::column::page::Page;
use parquet::data_type::ByteArray;
use std::fs::File;
use std::ops::Range;

/// What Snappy compresses at a time.
const PIECE: u64 = 1 << 16;

/// Where the values of a page lie.
pub(super) struct Direct {
    /// One for each row of the page.
    values: Vec<Option<ValuePlace>>,
    /// The page itself, then the dictionary if the page has one.
    pages: Vec<PageMap>,
}

/// Where a value lies in an unpacked page.
pub(super) struct ValuePlace {
    start: u32,
    /// The upper bit says that it is in the dictionary.
    length: u32,
}

const IN_DICTIONARY: u32 = 1 << 31;

/// How the bytes of an unpacked page lie in its file.
struct PageMap {
    /// Where the page's content begins in the file.
    start: u64,
    /// What stands before the part that is compressed.
    plain: u64,
    /// Bytes of the page behind `plain`, unpacked.
    length: u64,
    /// Where each piece begins, behind `plain`, and at last where they end. `None`: it isn't compressed.
    pieces: Option<Vec<u32>>,
}

impl Direct {
    /// Returns where `values` lie, or `None` if they can't be read one by one.
    pub fn of(
        values: &[Option<ByteArray>],
        codec: Compression,
        data: &Fetched,
        dictionary: Option<&Fetched>,
    ) -> Option<Self> {
        let pages = [Some(data), dictionary].into_iter().flatten();
        let pages = pages.map(|page| PageMap::of(codec, page)).collect::<Option<Vec<_>>>()?;
        let starts = [Some(data), dictionary].map(|page| {
            page.map(|page| (page.page.buffer().as_ptr() as usize, page.page.buffer().len()))
        });
        let place = |value: &ByteArray| {
            let (at, length) = (value.data().as_ptr() as usize, value.len());
            let inside = |start: Option<(usize, usize)>| {
                let (start, size) = start?;
                let skipped = at.checked_sub(start)?;
                (skipped.checked_add(length)? <= size).then_some(skipped)
            };
            let length = u32::try_from(length).ok().filter(|length| *length < IN_DICTIONARY)?;
            if let Some(start) = inside(starts[0]) {
                return Some(ValuePlace { start: u32::try_from(start).ok()?, length });
            }
            let start = u32::try_from(inside(starts[1])?).ok()?;
            Some(ValuePlace { start, length: length | IN_DICTIONARY })
        };
        let places = values.iter().map(|value| match value {
            None => Some(None),
            Some(value) => place(value).map(Some),
        });
        Some(Self { values: places.collect::<Option<Vec<_>>>()?, pages })
    }

    /// Reads a value by its row in the page. Returns `None` if that doesn't work, and `Some(None)` if there is no value.
    #[expect(clippy::option_option, reason = "whether it works is one thing, and a value another")]
    pub fn read(&self, file: &File, row: usize) -> Option<Option<Vec<u8>>> {
        let Some(place) = self.values.get(row)? else { return Some(None) };
        let page = self.pages.get(usize::from(place.length & IN_DICTIONARY != 0))?;
        let (start, length) = (u64::from(place.start), place.length & !IN_DICTIONARY);
        page.read(file, start..start + u64::from(length)).map(Some)
    }
}

impl PageMap {
    fn of(codec: Compression, fetched: &Fetched) -> Option<Self> {
        let size = fetched.page.buffer().len() as u64;
        let (plain, compressed) = match &fetched.page {
            Page::DataPageV2 {
                def_levels_byte_len, rep_levels_byte_len, is_compressed, ..
            } => {
                (u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len), *is_compressed)
            }
            Page::DataPage { .. } | Page::DictionaryPage { .. } => (0, true),
        };
        let length = size.checked_sub(plain)?;
        let map = |pieces| Self { start: fetched.content.start, plain, length, pieces };
        match codec {
            _ if !compressed => Some(map(None)),
            Compression::UNCOMPRESSED => Some(map(None)),
            Compression::SNAPPY => {
                let stored = fetched.stored.get(usize::try_from(plain).ok()?..)?;
                pieces(stored, length).map(|pieces| map(Some(pieces)))
            }
            _ => None,
        }
    }

    /// Reads a range of the unpacked page.
    fn read(&self, file: &File, range: Range<u64>) -> Option<Vec<u8>> {
        let Some(pieces) = &self.pieces else {
            let place = self.start + range.start..self.start + range.end;
            return read_at(file, &place).ok().map(Vec::from);
        };
        let range = range.start.checked_sub(self.plain)?..range.end.checked_sub(self.plain)?;
        if range.is_empty() {
            return Some(Vec::new());
        }
        let (first, last) = (range.start / PIECE, (range.end - 1) / PIECE);
        let begin = |piece: u64| pieces.get(piece as usize).map(|begin| u64::from(*begin));
        let base = self.start + self.plain;
        let from = begin(first)?;
        let stored = read_at(file, &(base + from..base + begin(last + 1)?)).ok()?;
        let mut unpacked = Vec::with_capacity(((last - first + 1) * PIECE) as usize);
        for piece in first..=last {
            let place = (begin(piece)? - from) as usize..(begin(piece + 1)? - from) as usize;
            let size = PIECE.min(self.length - piece * PIECE);
            // Each piece is made a stream of its own, which begins with its size. One that refers to bytes of another
            // piece is refused by the decoder.
            let mut stream = varint(size);
            stream.extend_from_slice(stored.get(place)?);
            unpacked.extend(snap::raw::Decoder::new().decompress_vec(&stream).ok()?);
        }
        let skipped = (range.start - first * PIECE) as usize;
        unpacked.truncate(skipped + (range.end - range.start) as usize);
        unpacked.drain(..skipped);
        Some(unpacked)
    }
}

/// Returns a number as Snappy writes it: 7 bits a byte, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8);
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Returns where in a stream of Snappy each 64 KiB of `length` unpacked bytes begin, and where the stream ends. Returns
/// `None` if something lies across such a border, which is allowed but not usual.
fn pieces(stream: &[u8], length: u64) -> Option<Vec<u32>> {
    let mut at = stream.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (mut unpacked, mut found) = (0, Vec::new());
    while unpacked < length {
        if unpacked == found.len() as u64 * PIECE {
            found.push(u32::try_from(at).ok()?);
        }
        let tag = *stream.get(at)?;
        let upper = u64::from(tag >> 2);
        let (size, taken) = match tag & 3 {
            0 if upper < 60 => (upper + 1, upper + 2),
            0 => {
                let digits = stream.get(at + 1..at + 1 + (upper as usize - 59))?;
                let size = digits.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
                (size + 1, size + 1 + 1 + (upper - 59))
            }
            1 => (4 + (upper & 7), 2),
            2 => (upper + 1, 3),
            _ => (upper + 1, 5),
        };
        unpacked += size;
        at += usize::try_from(taken).ok()?;
        if unpacked > found.len() as u64 * PIECE {
            return None;
        }
    }
    found.push(u32::try_from(at).ok()?);
    (unpacked == length && at <= stream.len()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_stream_are_found_and_any_other_stream_is_refused() {
        let noise = |seed: u64| {
            let mut state = seed;
            move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            }
        };
        let mut next = noise(7);
        let random: Vec<u8> = (0..300_000).map(|_| next()).collect();
        let even = vec![9; 200_000];
        let mixed = [&random[..70_001], &even[..130_007], &random[..5]].concat();
        for bytes in [&random[..], &even, &mixed, &random[..65_536], &random[..65_537], &[1]] {
            let stream = snap::raw::Encoder::new().compress_vec(bytes).expect("it can be packed");
            let found = pieces(&stream, bytes.len() as u64).expect("pieces of 64 KiB");
            assert_eq!(found.len(), bytes.len().div_ceil(PIECE as usize) + 1);
            assert_eq!(found.last().copied(), u32::try_from(stream.len()).ok());
            assert_eq!(pieces(&stream[..stream.len() - 1], bytes.len() as u64), None);
        }
        // One literal of 70,000 bytes, which no encoder makes.
        let long = [&varint(70_000)[..], &[62 << 2, 0x6f, 0x11, 0x01], &random[..70_000]].concat();
        assert!(snap::raw::Decoder::new().decompress_vec(&long).is_ok());
        assert_eq!(pieces(&long, 70_000), None);
    }
}
