//! The few messages of TensorFlow's event files that exports need, and the frame around each record.
//!
//! Tags and types are those of `tensorflow/core/util/event.proto` and `framework/summary.proto`. A record is the length
//! of the message, a checksum of the length, the message, and a checksum of the message, all little-endian.

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

/// The message of one record.
#[derive(Clone, PartialEq, Message)]
pub struct TensorboardEvent {
    /// Seconds since 1970-01-01 UTC.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    pub what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// The version of the format, in the first record of each file: `brain.Event:2`.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Content", tags = "2, 4")]
    pub content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3 stands for RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// The bytes of a PNG.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// Returns a message in its frame.
pub(super) fn record(event: &TensorboardEvent) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(message.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(&message);
    out.extend_from_slice(&masked_crc(&message).to_le_bytes());
    out
}

/// Returns the CRC-32C, rotated and offset so that checksums of data that holds checksums are good ones too.
fn masked_crc(bytes: &[u8]) -> u32 {
    const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
