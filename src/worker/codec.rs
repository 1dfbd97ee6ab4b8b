//! Frames: a 4-byte little-endian length, then that many bytes of JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::MAX_FRAME;

/// A message could not be sent or understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The pipe failed.
    #[error("the pipe failed: {0}")]
    Io(#[from] io::Error),
    /// The length is beyond the limit; the bytes after it were not read.
    #[error("a frame of {len} bytes was announced, {MAX_FRAME} are allowed")]
    TooLong { len: u64 },
    /// The pipe ended inside a frame.
    #[error("the pipe ended after {got} of {expected} bytes of a frame")]
    Truncated { got: u64, expected: u64 },
    /// The bytes are not the message expected.
    #[error("a frame does not hold the message expected: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes of one frame.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let len = (frame.len() - 4) as u64;
    match u32::try_from(len) {
        Ok(short) if short <= MAX_FRAME => frame[..4].copy_from_slice(&short.to_le_bytes()),
        _ => return Err(FrameError::TooLong { len }),
    }
    Ok(frame)
}

/// Sends one frame.
pub(super) fn write<T: Serialize>(out: &mut impl Write, message: &T) -> Result<(), FrameError> {
    out.write_all(&encode(message)?)?;
    Ok(out.flush()?)
}

/// Reads one frame; none if the pipe ended before it.
pub(super) fn read<T: DeserializeOwned>(input: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut head = Vec::with_capacity(4);
    match input.by_ref().take(4).read_to_end(&mut head)? {
        0 => return Ok(None),
        4 => {}
        got => return Err(FrameError::Truncated { got: got as u64, expected: 4 }),
    }
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if len > MAX_FRAME {
        return Err(FrameError::TooLong { len: u64::from(len) });
    }
    // The length is a claim: memory is taken as the bytes come, not as they are announced.
    let mut body = Vec::new();
    let got = input.by_ref().take(u64::from(len)).read_to_end(&mut body)? as u64;
    if got < u64::from(len) {
        return Err(FrameError::Truncated { got, expected: u64::from(len) });
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{
        Answer, Built, Hello, Hermetic, MAGIC, Refusal, Request, Response, VERSION,
    };
    use super::*;

    fn hello() -> Hello {
        Hello { magic: MAGIC.into(), protocol: VERSION, program: "0.1.0".into() }
    }

    #[test]
    fn frames_survive_the_way() {
        let request = Request::Probe { libraries: "/opt/rtx".into() };
        let mut bytes = encode(&hello()).unwrap();
        bytes.extend(encode(&request).unwrap());
        let mut input = bytes.as_slice();
        assert_eq!(read::<Hello>(&mut input).unwrap(), Some(hello()));
        assert_eq!(read::<Request>(&mut input).unwrap(), Some(request));
        assert_eq!(read::<Request>(&mut input).unwrap(), None);
    }

    #[test]
    fn every_answer_survives_the_way() {
        let stat = crate::fs::stat(std::path::Path::new("/proc/self/exe")).unwrap();
        let summary = crate::onnx::Summary {
            ir_version: 8,
            opsets: [(String::new(), 17)].into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            operators: [("Relu".to_owned(), 1)].into(),
            weight_bytes: u64::MAX,
        };
        let (files, notes) = (
            vec![("/m.onnx".into(), stat)],
            vec![crate::onnx::Note { code: "odd".to_owned(), text: "odd".to_owned() }],
        );
        let canonicalized = crate::onnx::Canonical {
            files,
            rests: vec![crate::digest::Digest::of(b"rest")],
            has_weights: true,
            digested: None,
            summary,
            notes,
        };
        let refusal = Refusal::new("build", "build-failed", "no `reason`\u{0}").help("none");
        for response in [
            Response::Canonicalized(Box::new(canonicalized)),
            Response::Probed { version: "1.7.1.116".into() },
            Response::Built(Box::new(Built {
                bindings: vec![],
                log: vec![],
                version: "1".into(),
                hermetic: Hermetic::Det,
                gpu: None,
            })),
            Response::Refused(Box::new(refusal)),
        ] {
            let answer = Answer { response, peak_rss: u64::MAX };
            let bytes = encode(&answer).unwrap();
            assert_eq!(read::<Answer>(&mut bytes.as_slice()).unwrap(), Some(answer));
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encode(&hello()).unwrap();
        for end in 1..bytes.len() {
            let error = read::<Hello>(&mut &bytes[..end]).unwrap_err();
            assert!(matches!(error, FrameError::Truncated { .. }), "cut at {end}: {error}");
        }
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let mut bytes = (MAX_FRAME + 1).to_le_bytes().to_vec();
        bytes.extend([b'{'; 16]);
        let mut input = bytes.as_slice();
        assert!(matches!(read::<Hello>(&mut input), Err(FrameError::TooLong { .. })));
        assert_eq!(input.len(), 16);
    }

    #[test]
    fn text_on_the_pipe_is_no_message() {
        // What a library would print: the first four letters are a length beyond the limit.
        assert!(matches!(read::<Hello>(&mut &b"Warning: x"[..]), Err(FrameError::TooLong { .. })));
        assert!(matches!(read::<Hello>(&mut &b"\x02\0\0\0{}"[..]), Err(FrameError::Json(_))));
    }
}
