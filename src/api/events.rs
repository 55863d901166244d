//! `GET /api/events/stream`: what happens, as Server-Sent Events.

use std::convert::Infallible;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::Bytes,
};
use futures_util::stream;
use serde_json::json;

use super::{ApiError, Call, Description, lifecycle::Endless};
use crate::events::{EventKind, Subscriber};

pub(super) fn describe() -> Description {
    let names = EventKind::ALL.map(EventKind::name).into_iter().chain(["connected", "lagged"]);
    let event = json!({
        "type": "object",
        "description": "An event, as an event stream is read.",
        "required": ["event", "data"],
        "properties": {
            "id": { "type": "string", "description": "Its id; `lagged` has none." },
            "event": { "type": "string", "enum": names.collect::<Vec<_>>() },
            "data": {
                "type": "string", "description": "What there is to know about it: a JSON object.",
                "contentMediaType": "application/json",
            },
        },
    });
    Description::new("Dashboards", "streamEvents", "Follow the events")
        .about(include_str!("events.md").trim_end())
        .looks_at("Last-Event-ID", "Id of the last event that the client has.")
        .answers_as(200, "The stream", "text/event-stream", event)
        .example(
            "id: 5e0c1b2a39485766-41\nevent: connected\n\
             data: {\"message\":\"Connected; what happens from now on follows\",\"resumed\":false}\n\n\
             id: 5e0c1b2a39485766-42\nevent: agent_online\n\
             data: {\"agentId\":\"agent-00f3a1b2c3d4e5f6\",\"hostname\":\"web-server-1\",\"ip\":\"203.0.113.10\"}\n\n",
        )
        .with_header("Cache-Control", "`no-store`")
        .with_header("X-Accel-Buffering", "`no`: a proxy should pass it on as it comes")
}

pub(super) async fn stream(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let last_event_id = call.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = call.state.events.subscribe(last_event_id)?;
    Ok(if call.is_head() {
        // No Content-Length, as with the stream itself.
        head().streaming(stream::empty::<Result<Bytes, Infallible>>())
    } else {
        answer(reader)
    })
}

fn head() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "text/event-stream")).insert_header((CACHE_CONTROL, "no-store"));
    // nginx would buffer a stream before it passes it on.
    response.insert_header(("X-Accel-Buffering", "no"));
    response
}

fn answer(reader: Subscriber) -> HttpResponse {
    let chunks = stream::unfold(reader, async |mut reader| {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let mut response = head().streaming(chunks);
    response.extensions_mut().insert(Endless);
    response
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        io::Write,
        net::{Ipv4Addr, TcpStream},
        sync::{Arc, atomic::Ordering::Relaxed},
    };

    use actix_web::{App, HttpServer, web};
    use tokio::time::{Duration, Instant, sleep};

    use super::*;
    use crate::{
        clock::Clock,
        events::{Bus, EventAggregator, EventRules},
        fleet::ActiveTime,
        metrics::Metrics,
        server::listener::listen_with,
    };

    #[test]
    fn a_reader_that_takes_nothing_is_cut_by_the_kernel_and_its_permit_is_free_again() {
        actix_rt::System::new().block_on(stalled_reader());
    }

    async fn stalled_reader() {
        let metrics = Arc::new(Metrics::new());
        let rules = EventRules { backlog: 100, max_streams: 1 };
        let aggregator = Arc::new(EventAggregator::new(1));
        let bus = Bus::new(rules, aggregator.clone(), metrics.clone());
        actix_rt::spawn(bus.clone().collect(Clock::new(0, ActiveTime::default(), Duration::from_secs(1))));
        let listener = listen_with((Ipv4Addr::LOCALHOST, 0).into(), Duration::from_millis(300)).unwrap();
        let address = listener.local_addr().unwrap();
        let readers = bus.clone();
        let route = move || {
            let reader = readers.subscribe(None).unwrap();
            async { answer(reader) }
        };
        let server = HttpServer::new(move || App::new().default_service(web::to(route.clone())));
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        let handle = server.handle();
        actix_rt::spawn(server);

        let mut stalled = TcpStream::connect(address).unwrap();
        stalled.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (began, streams) = (Instant::now(), || metrics.event_streams.load(Relaxed));
        let mut was_open = false;
        while !was_open || streams() == 1 {
            was_open |= streams() == 1;
            aggregator.policy_created(&"x".repeat(10_000), "v1", 1);
            assert!(began.elapsed() < Duration::from_secs(30), "it is still there");
            sleep(Duration::from_millis(2)).await;
        }
        handle.stop(false).await;
    }
}
