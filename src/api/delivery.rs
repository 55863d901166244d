//! Encodes responses for their clients: compressed on request, and without chunks for HTTP/1.0.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io::Write,
    mem,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BodyStream, BoxBody, MessageBody},
    http::{
        ConnectionType, Method, StatusCode, Version,
        header::{AcceptEncoding, CONTENT_ENCODING, CONTENT_TYPE, ETAG, Encoding, Header as _, HeaderValue, VARY},
    },
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{Stream, stream};

use crate::limits::{GZIP_LEAST_BYTES, GZIP_REST_MS, GZIP_STEP_BYTES, GZIP_UNDER_WAY_MAX};

/// The answer as this client can take it.
pub(super) fn fitted(request: &HttpRequest, answer: HttpResponse) -> HttpResponse {
    let mut answer = if is_compressible(request, &answer) { negotiated(request, answer) } else { answer };
    // A client of HTTP/1.0 does not know chunks: the end of the connection is the end of the answer.
    if request.version() == Version::HTTP_10 && answer.body().size() == BodySize::Stream {
        answer.head_mut().no_chunking(true);
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    answer
}

/// What is read and is large. Not an event stream, whose lines would wait for each other; not what has a tag, which stands
/// for its bytes; not the answers to other methods: they may have secrets beside what the client has chosen, and the length
/// of both compressed together leaks them.
fn is_compressible(request: &HttpRequest, answer: &HttpResponse) -> bool {
    let headers = answer.headers();
    let is_stream_of_events =
        || headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let is_large = match answer.body().size() {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= GZIP_LEAST_BYTES,
        BodySize::Stream => true,
    };
    is_large
        && [Method::GET, Method::HEAD].contains(request.method())
        && answer.status() == StatusCode::OK
        && !headers.contains_key(ETAG)
        && !is_stream_of_events()
}

fn negotiated(request: &HttpRequest, mut answer: HttpResponse) -> HttpResponse {
    answer.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let supported = [Encoding::gzip(), Encoding::identity()];
    let accepted = AcceptEncoding::parse(request).ok();
    if accepted.and_then(|accepted| accepted.negotiate(supported.iter())) != Some(Encoding::gzip()) {
        return answer;
    }
    let Some(permit) = Permit::take(&UNDER_WAY) else {
        return answer;
    };
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let is_head = request.method() == Method::HEAD;
    answer.map_body(|_, body| {
        if is_head {
            BoxBody::new(BodyStream::new(stream::empty::<Result<Bytes, Infallible>>()))
        } else {
            BoxBody::new(BodyStream::new(gzip(body, permit)))
        }
    })
}

/// Answers that are being compressed.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// One of the answers that may be compressed at one time.
struct Permit(&'static AtomicUsize);

impl Permit {
    fn take(under_way: &'static AtomicUsize) -> Option<Self> {
        let one_more = |count| (count < GZIP_UNDER_WAY_MAX).then_some(count + 1);
        under_way.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Self(under_way))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A body that is being compressed.
struct Gzip {
    _permit: Permit,
    body: BoxBody,
    /// What has come of it and is not compressed yet.
    rest: Bytes,
    /// None: all of it is.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Bytes that were compressed since the last rest.
    worked: usize,
}

/// Compresses while the client takes. After each step it rests, so that heartbeats find half of the processor free.
fn gzip(body: BoxBody, permit: Permit) -> impl Stream<Item = Result<Bytes, Box<dyn Error>>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let begin = Gzip { _permit: permit, body, rest: Bytes::new(), encoder: Some(encoder), worked: 0 };
    stream::try_unfold(begin, async |mut gzip| {
        loop {
            let Some(encoder) = &mut gzip.encoder else {
                return Ok(None);
            };
            if gzip.rest.is_empty() {
                match poll_fn(|cx| Pin::new(&mut gzip.body).poll_next(cx)).await {
                    Some(chunk) => gzip.rest = chunk?,
                    None => {
                        let end = gzip.encoder.take().map_or_else(|| Ok(Vec::new()), GzEncoder::finish)?;
                        return Ok(Some((end.into(), gzip)));
                    }
                }
            }
            if gzip.worked >= GZIP_STEP_BYTES {
                tokio::time::sleep(Duration::from_millis(GZIP_REST_MS)).await;
                gzip.worked = 0;
            }
            let step = gzip.rest.split_to(gzip.rest.len().min(GZIP_STEP_BYTES - gzip.worked));
            gzip.worked += step.len();
            encoder.write_all(&step)?;
            let ready = mem::take(encoder.get_mut());
            if !ready.is_empty() {
                return Ok(Some((ready.into(), gzip)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use actix_web::{
        http::header::{ACCEPT_ENCODING, ContentType},
        test::TestRequest,
    };
    use flate2::read::GzDecoder;
    use futures_util::StreamExt;

    use super::*;

    fn permit() -> Permit {
        Permit::take(&UNDER_WAY).unwrap()
    }

    #[test]
    fn no_more_than_so_many_are_compressed_at_one_time() {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut permits: Vec<_> = (0..GZIP_UNDER_WAY_MAX).map(|_| Permit::take(&COUNT).unwrap()).collect();
        assert!(Permit::take(&COUNT).is_none());
        permits.pop();
        assert!(Permit::take(&COUNT).is_some(), "a place that was given back");
    }

    fn encoding(request: TestRequest, answer: HttpResponse) -> (Option<String>, Option<String>) {
        let answer = fitted(&request.to_http_request(), answer);
        let header = |name| answer.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        (header(CONTENT_ENCODING), header(VARY))
    }

    fn large() -> HttpResponse {
        HttpResponse::Ok().insert_header(ContentType::json()).body("x".repeat(GZIP_LEAST_BYTES as usize))
    }

    #[test]
    fn a_large_answer_is_compressed_for_who_asks_for_that() {
        for (asked, is_compressed) in [
            ("gzip", true),
            ("deflate, gzip;q=0.1, br", true),
            ("GZIP", true),
            ("gzip;q=0.5, identity;q=0.1", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("br, zstd", false),
            ("", false),
            ("gzip;q=x", false),
        ] {
            let request = TestRequest::get().insert_header((ACCEPT_ENCODING, asked));
            let (encoding, vary) = encoding(request, large());
            assert_eq!(encoding.is_some(), is_compressed, "{asked:?}");
            assert_eq!(vary.as_deref(), Some("accept-encoding"), "{asked:?}");
        }
        assert_eq!(encoding(TestRequest::get(), large()), (None, Some("accept-encoding".into())));
    }

    #[test]
    fn what_is_small_has_a_tag_or_is_no_answer_to_a_reader_is_sent_as_it_is() {
        let asked = |method| TestRequest::default().method(method).insert_header((ACCEPT_ENCODING, "gzip"));
        let tagged = HttpResponse::Ok().insert_header((ETAG, "\"v1\"")).body("x".repeat(10_000));
        let events = HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/event-stream"))
            .streaming(stream::empty::<Result<Bytes, Infallible>>());
        let failed = HttpResponse::BadRequest().body("x".repeat(10_000));
        for (request, answer) in [
            (asked(Method::GET), HttpResponse::Ok().body("x".repeat(GZIP_LEAST_BYTES as usize - 1))),
            (asked(Method::GET), HttpResponse::Ok().finish()),
            (asked(Method::GET), tagged),
            (asked(Method::GET), events),
            (asked(Method::GET), failed),
            (asked(Method::POST), large()),
        ] {
            assert_eq!(encoding(request, answer), (None, None));
        }
        let head = encoding(asked(Method::HEAD), large());
        assert_eq!(head, (Some("gzip".into()), Some("accept-encoding".into())), "as GET is answered");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_compressed_comes_in_pieces_and_is_what_it_was() {
        // Text that compresses badly, in one piece and in many.
        let mut state = 1_u32;
        let text: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 28) as u8
        })
        .take(5 * GZIP_STEP_BYTES + 1)
        .collect();
        let pieces: Vec<Result<Bytes, Infallible>> =
            text.chunks(1_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        for body in [BoxBody::new(text.clone()), BoxBody::new(BodyStream::new(stream::iter(pieces)))] {
            let chunks: Vec<Bytes> = gzip(body, permit()).map(|chunk| chunk.unwrap()).collect().await;
            assert!(chunks.iter().all(|chunk| chunk.len() <= 2 * GZIP_STEP_BYTES), "none is large");
            let (packed, mut plain) = (chunks.concat(), Vec::new());
            GzDecoder::new(&*packed).read_to_end(&mut plain).unwrap();
            assert!(plain == text && packed.len() < text.len());
        }
        let empty: Vec<_> = gzip(BoxBody::new(Bytes::new()), permit()).collect().await;
        assert_eq!(empty.len(), 1, "an end at least");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_does_not_end_well() {
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]);
        let chunks: Vec<_> = gzip(BoxBody::new(BodyStream::new(broken)), permit()).collect().await;
        assert!(chunks.last().unwrap().is_err());
    }

    #[test]
    fn over_http_1_0_a_stream_ends_with_its_connection() {
        let answered = |version, answer: HttpResponse| {
            let request = TestRequest::get().version(version).to_http_request();
            let mut answer = fitted(&request, answer);
            (answer.head_mut().chunked(), answer.head_mut().connection_type() == ConnectionType::Close)
        };
        let streamed = || HttpResponse::Ok().streaming(stream::empty::<Result<Bytes, Infallible>>());
        assert_eq!(answered(Version::HTTP_10, streamed()), (false, true));
        assert!(answered(Version::HTTP_11, streamed()).0);
        assert!(answered(Version::HTTP_10, HttpResponse::Ok().body("x")).0, "it has a length");
    }
}
