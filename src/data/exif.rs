//! The orientation that a camera wrote beside its picture: EXIF in JPEG, PNG and WebP, and the tags of TIFF.
//!
//! The decoders know this too, but each of them misses something that is written in the wild: EXIF behind the pixels of
//! a PNG, a second APP1 segment, numbers of another width than the standard's.

use image::ImageFormat;
use image::metadata::Orientation;

/// The tag of the orientation.
const ORIENTATION: u32 = 0x0112;
/// What stands before the TIFF structure in JPEG, and with some programs in PNG and WebP.
const EXIF: &[u8] = b"Exif\0";
/// More tags than that are in no sound directory.
const MOST_TAGS: usize = 4096;

/// Returns the orientation that an encoded picture asks for.
pub(super) fn orientation(format: ImageFormat, bytes: &[u8]) -> Option<Orientation> {
    match format {
        ImageFormat::Jpeg => of_jpeg(bytes),
        ImageFormat::Png => chunks(bytes.get(8..)?, ByteOrder::Big, 4)
            .find_map(|(kind, data)| (kind == b"eXIf").then(|| of_exif(data)).flatten()),
        ImageFormat::WebP => chunks(bytes.get(12..)?, ByteOrder::Little, 0)
            .find_map(|(kind, data)| (kind == b"EXIF").then(|| of_exif(data)).flatten()),
        ImageFormat::Tiff => of_tiff(bytes),
        _ => None,
    }
}

/// Reads the first APP1 segment with an orientation. There may be several, with XMP or after other segments.
fn of_jpeg(bytes: &[u8]) -> Option<Orientation> {
    let mut rest = bytes.get(2..)?;
    loop {
        // A marker may have any number of fill bytes before it.
        let start = rest.iter().position(|&byte| byte != 0xff)?;
        let (marker, after) = (*rest.get(start)?, rest.get(start + 1..)?);
        if start == 0 || marker == 0xda {
            return None; // what follows is no segment, or the pixels
        }
        let length = usize::try_from(ByteOrder::Big.number(after.get(..2)?)).ok()?;
        let data = after.get(2..length)?;
        if marker == 0xe1
            && let Some(found) = data.starts_with(EXIF).then(|| of_exif(data)).flatten()
        {
            return Some(found);
        }
        rest = after.get(length..)?;
    }
}

/// Returns the chunks of a PNG or RIFF file: kind and data. `trailer` bytes follow each.
fn chunks(
    mut rest: &[u8],
    order: ByteOrder,
    trailer: usize,
) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, length) = match order {
            ByteOrder::Big => (rest.get(4..8)?, rest.get(..4)?),
            ByteOrder::Little => (rest.get(..4)?, rest.get(4..8)?),
        };
        let length = usize::try_from(order.number(length)).ok()?;
        let data = rest.get(8..8_usize.checked_add(length)?)?;
        // RIFF fills up odd lengths.
        let padding = if trailer == 0 { length % 2 } else { trailer };
        rest = rest.get(8 + length + padding..).unwrap_or_default();
        Some((kind, data))
    })
}

fn of_exif(data: &[u8]) -> Option<Orientation> {
    let plain = data.strip_prefix(EXIF).and_then(|rest| rest.get(1..));
    of_tiff(plain.unwrap_or(data))
}

/// Reads the tag in the first directory of a TIFF structure.
fn of_tiff(bytes: &[u8]) -> Option<Orientation> {
    let order = match bytes.get(..4)? {
        b"II*\0" => ByteOrder::Little,
        b"MM\0*" => ByteOrder::Big,
        _ => return None,
    };
    let at = usize::try_from(order.number(bytes.get(4..8)?)).ok()?;
    let count = usize::try_from(order.number(bytes.get(at..at.checked_add(2)?)?)).ok()?;
    let tags = bytes.get(at + 2..)?.chunks_exact(12).take(count.min(MOST_TAGS));
    let mut found = tags.filter(|tag| order.number(&tag[..2]) == ORIENTATION);
    let tag = found.next()?;
    // The standard has a 16-bit number here. Some programs write one of 8 or 32 bits.
    let value = match order.number(&tag[2..4]) {
        1 | 6 | 7 => order.number(&tag[8..9]),
        3 | 8 => order.number(&tag[8..10]),
        4 | 9 => order.number(&tag[8..12]),
        _ => return None,
    };
    Orientation::from_exif(u8::try_from(value).ok()?)
}

#[derive(Clone, Copy)]
enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    /// Returns the number of at most 4 bytes.
    fn number(self, bytes: &[u8]) -> u32 {
        let append = |number: u32, &byte: &u8| number << 8 | u32::from(byte);
        match self {
            Self::Big => bytes.iter().fold(0, append),
            Self::Little => bytes.iter().rev().fold(0, append),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a TIFF structure whose directory lies at `at` and has a tag before the orientation.
    fn tiff(big: bool, at: u32, kind: u16, value: u8) -> Vec<u8> {
        let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut bytes = if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(long(at));
        bytes.resize(at as usize, 0);
        bytes.extend(short(2));
        bytes.extend([&short(0x010f)[..], &short(2), &long(4), b"abc\0"].concat());
        bytes.extend([&short(0x0112)[..], &short(kind), &long(1)].concat());
        bytes.extend(match kind {
            1 => [value, 0, 0, 0],
            3 => [&short(u16::from(value))[..], &[0, 0]].concat().try_into().unwrap(),
            _ => long(u32::from(value)),
        });
        bytes.extend(long(0));
        bytes
    }

    fn jpeg(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        for (marker, data) in segments {
            bytes.extend([0xff, 0xff, *marker]);
            bytes.extend(u16::try_from(data.len() + 2).unwrap().to_be_bytes());
            bytes.extend(data);
        }
        bytes.extend([0xff, 0xda, 0, 2]);
        bytes
    }

    fn png(before: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in before {
            bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(*kind);
            bytes.extend(data);
            bytes.extend([0; 4]);
        }
        bytes
    }

    fn webp(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        for (kind, data) in chunks {
            bytes.extend_from_slice(*kind);
            bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(2), 0);
        }
        bytes
    }

    #[test]
    fn the_tag_is_found_in_every_container_byte_order_and_width() {
        for big in [false, true] {
            for at in [8, 20] {
                for kind in [1, 3, 4] {
                    for value in 1..=8 {
                        let tags = tiff(big, at, kind, value);
                        let exif = [b"Exif\0\0", &tags[..]].concat();
                        let expected = Orientation::from_exif(value);
                        let files = [
                            (ImageFormat::Tiff, tags.clone()),
                            (ImageFormat::Jpeg, jpeg(&[(0xe1, exif.clone())])),
                            (
                                ImageFormat::Jpeg,
                                jpeg(&[
                                    (0xe0, b"JFIF\0".to_vec()),
                                    (0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>".to_vec()),
                                    (0xed, vec![0xff; 9]),
                                    (0xe1, exif.clone()),
                                ]),
                            ),
                            (
                                ImageFormat::Png,
                                png(&[(b"IDAT", vec![7; 5]), (b"eXIf", tags.clone())]),
                            ),
                            (ImageFormat::Png, png(&[(b"eXIf", exif.clone())])),
                            (ImageFormat::WebP, webp(&[(b"VP8 ", vec![1; 7]), (b"EXIF", tags)])),
                            (ImageFormat::WebP, webp(&[(b"EXIF", exif)])),
                        ];
                        for (format, bytes) in files {
                            let what = format!("{format:?} {big} {at} {kind} {value}");
                            assert_eq!(orientation(format, &bytes), expected, "{what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nonsense_and_broken_structures_are_no_orientation() {
        let whole = jpeg(&[(0xe1, [b"Exif\0\0", &tiff(true, 8, 3, 6)[..]].concat())]);
        for length in 0..whole.len() - 4 {
            let _ = orientation(ImageFormat::Jpeg, &whole[..length]); // no panic
        }
        for value in [0, 9, 200] {
            assert_eq!(orientation(ImageFormat::Tiff, &tiff(false, 8, 3, value)), None);
        }
        assert_eq!(orientation(ImageFormat::Tiff, b"II*\0\xff\xff\xff\xff"), None);
        assert_eq!(orientation(ImageFormat::Png, &[0xff; 40]), None);
        assert_eq!(orientation(ImageFormat::WebP, &[0xff; 40]), None);
    }
}
