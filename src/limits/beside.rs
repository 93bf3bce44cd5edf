//! Bounds of what goes to backends beside plain writes: what `/admin` asks of all, and what is compressed. Pure.

/// Bytes of one backend's answer to `/admin`. What is longer is cut there, and marked.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Smallest body that `compress` compresses. A smaller one fits one packet, and goes as it is.
pub const COMPRESS_BODY_BYTES_MIN: usize = 1024;
/// Largest body that `compress` compresses. A larger one would hold up the shard, and goes as it is.
pub const COMPRESS_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Compressed bytes that the links of one shard hold. Past it bodies go as they are.
pub const COMPRESSED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the buffers of an idle link, and of the shard's compressor. What grew past it is given back.
pub const COMPRESSED_KEEP_BYTES: usize = 256 * 1024;

const _: () = {
    assert!(
        COMPRESS_BODY_BYTES_MAX <= COMPRESSED_BYTES_MAX,
        "one body must fit"
    );
    assert!(COMPRESS_BODY_BYTES_MIN < COMPRESS_BODY_BYTES_MAX);
};
