//! A message of Protocol Buffers, field by field, as it lies on the wire. Pure.
//!
//! ```text
//!  varint: number << 3 | kind     0 a varint   1 eight bytes   2 a length and so many bytes   5 four bytes
//! ```
//!
//! Nothing is decoded but the frame, so that what is not known here can be copied as it is. What two
//! readers could take for two things is refused: a varint past 64 bits, field 0, and groups, which no
//! sender has used for twenty years.

/// One field of a message.
pub(super) struct Field<'a> {
    /// Its number, from 1.
    pub(super) number: u64,
    /// What it holds.
    pub(super) value: Value<'a>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, or a truth value.
    Varint(u64),
    /// A text, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// It is no message; why.
pub(super) type Malformed = &'static str;

/// The fields of one message, one after the other.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// Where the next field begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next field, or `None` behind the last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        const NUMBER_MAX: u64 = (1 << 29) - 1;
        if self.at == self.message.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if !(1..=NUMBER_MAX).contains(&number) {
            return Err("a field with a number that none can have");
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return Err("a field of a kind that is not used"),
        };
        Ok(Some(Field { number, value }))
    }

    /// The next varint, for a message that is nothing but packed ones; `None` behind the last.
    pub(super) fn next_packed(&mut self) -> Result<Option<u64>, Malformed> {
        if self.at == self.message.len() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        const LAST_SHIFT: u32 = 63;
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = *self.message.get(self.at).ok_or("cut off")?;
            self.at += 1;
            if shift == LAST_SHIFT && byte > 1 {
                return Err("a number of more than 64 bits");
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    #[inline]
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let rest = &self.message[self.at..];
        let bytes = rest.get(..count).ok_or("cut off")?;
        self.at += count;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Malformed, Value};

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let mut fields = Fields::of(message);
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push((field.number, field.value));
        }
        assert_eq!(fields.at(), message.len());
        Ok(all)
    }

    #[test]
    fn every_kind_of_field_is_framed() {
        let message =
            b"\x08\x96\x01\x12\x02ab\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\xf8\xff\xff\xff\x0f\0";
        let found = read(message).unwrap();
        let right = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"ab")),
            (3, Value::Fixed),
            (4, Value::Fixed),
            ((1 << 29) - 1, Value::Varint(0)),
        ];
        assert_eq!(found, right);
        let ends = [0, 3, 7, 16, 21, 27];
        for cut in 0..message.len() {
            assert_eq!(read(&message[..cut]).is_ok(), ends.contains(&cut), "{cut}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let most = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(read(most), Ok(vec![(1, Value::Varint(u64::MAX))]));
        for message in [
            &b"\x00\x00"[..],                                        // field 0
            b"\x0b\x0c",                                             // a group
            b"\x0e\x00",                                             // no kind
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",         // 65 bits
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", // endless
            b"\x80\x80\x80\x80\x10\x00",                             // a number of 30 bits
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",         // a length past the end
        ] {
            assert!(read(message).is_err(), "{message:02x?}");
        }
    }
}
