//! `GET /api/events/stream`: what happens, as Server-Sent Events.

use std::convert::Infallible;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
};
use futures_util::stream;

use super::{State, auth::Caller, envelope::ApiError, guard::Endless};

pub(super) async fn stream(request: &HttpRequest, state: &State) -> Result<HttpResponse, ApiError> {
    Caller::of(request.headers(), &state.auth)?.must_be_admin(state).await?;
    let last_event_id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = state.events.subscribe(last_event_id)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "text/event-stream")).insert_header((CACHE_CONTROL, "no-store"));
    // nginx would gather a stream before it passes it on.
    response.insert_header(("X-Accel-Buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let chunks = stream::unfold(reader, async |mut reader| {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let mut response = response.streaming(chunks);
    response.extensions_mut().insert(Endless);
    Ok(response)
}
