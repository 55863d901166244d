//! A TCP proxy whose traffic a test can break, and direct elsewhere, while it runs.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use guardbeat_testkit::free_port;

/// What happens to what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// It arrives.
    Forward,
    /// Requests vanish; the connection stays open.
    SwallowRequests,
    /// Requests arrive and their answers vanish; the connection stays open.
    SwallowReplies,
    /// Open connections are closed, and new ones refused.
    Refuse,
}

/// A proxy on a port of its own. Connections whose bytes were swallowed stay silent for ever, as those that a firewall
/// forgot do: whoever has one must notice and make another.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    over: AtomicBool,
}

struct State {
    traffic: Traffic,
    target: u16,
    /// Both ends of the open connections.
    streams: Vec<TcpStream>,
    /// What is done before a request with these bytes in it goes on, once.
    before: Option<(Vec<u8>, Act)>,
    is_acting: bool,
    /// Until that is done, requests with the first of these bytes in them wait until the second have come after them.
    held: Option<(Vec<u8>, Vec<u8>)>,
}

type Act = Box<dyn FnOnce() + Send>;

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Proxy {
    /// A proxy of this port of the loopback.
    pub fn start(target: u16) -> Self {
        let state = State {
            traffic: Traffic::Forward,
            target,
            streams: Vec::new(),
            before: None,
            is_acting: false,
            held: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), over: AtomicBool::new(false) });
        let (port, listener) = loop {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                break (port, listener);
            }
        };
        let listener = thread::spawn({
            let shared = shared.clone();
            move || listen(port, listener, &shared)
        });
        Self { port, shared, listener: Some(listener) }
    }

    /// Where it is, for `store.url`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on this happens to what is sent.
    pub fn set(&self, traffic: Traffic) {
        let mut state = self.shared.state.lock().unwrap();
        state.traffic = traffic;
        if traffic == Traffic::Refuse {
            state.cut();
        }
    }

    /// Before the next request with these bytes in it goes on this is done.
    pub fn before(&self, bytes: &str, act: impl FnOnce() + Send + 'static) {
        self.shared.state.lock().unwrap().before = Some((bytes.into(), Box::new(act)));
    }

    /// Until what [`before`](Self::before) says is done, every request with these bytes in it goes on only together with one
    /// that was sent after it and has the bytes `until`.
    pub fn hold(&self, bytes: &str, until: &str) {
        self.shared.state.lock().unwrap().held = Some((bytes.into(), until.into()));
    }

    /// Whether what was to be done has been done.
    pub fn has_acted(&self) -> bool {
        let state = self.shared.state.lock().unwrap();
        state.before.is_none() && !state.is_acting
    }

    /// Closes what is open; new connections go to this port.
    pub fn redirect(&self, target: u16) {
        let mut state = self.shared.state.lock().unwrap();
        state.target = target;
        state.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        self.shared.state.lock().unwrap().cut();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Accepts connections, and closes the listening socket while they are to be refused.
fn listen(port: u16, listener: TcpListener, shared: &Arc<Shared>) {
    listener.set_nonblocking(true).unwrap();
    let mut listener = Some(listener);
    while !shared.over.load(Relaxed) {
        if shared.state.lock().unwrap().traffic == Traffic::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).unwrap();
            }
        }
        match listener.as_ref().map(TcpListener::accept) {
            // A target that refuses is seen as a connection that is closed at once.
            Some(Ok((client, _))) => drop(connect(client, shared)),
            Some(Err(_)) | None => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    let mut state = shared.state.lock().unwrap();
    if state.traffic == Traffic::Refuse {
        return Ok(());
    }
    let server = TcpStream::connect(("127.0.0.1", state.target))?;
    server.set_nodelay(true)?;
    state.streams.extend([client.try_clone()?, server.try_clone()?]);
    drop(state);
    let is_lost = Arc::new(AtomicBool::new(false));
    for (from, to, swallow) in
        [(&client, &server, Traffic::SwallowRequests), (&server, &client, Traffic::SwallowReplies)]
    {
        let (from, to, shared, is_lost) = (from.try_clone()?, to.try_clone()?, shared.clone(), is_lost.clone());
        thread::spawn(move || pump(from, to, swallow, &shared, &is_lost));
    }
    Ok(())
}

/// Carries what comes to the other end, until one of them closes.
fn pump(mut from: TcpStream, mut to: TcpStream, swallow: Traffic, shared: &Shared, is_lost: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    'carry: while let Ok(mut length @ 1..) = from.read(&mut buffer) {
        let traffic = shared.state.lock().unwrap().traffic;
        if traffic == swallow {
            is_lost.store(true, Relaxed);
        }
        let is_request = swallow == Traffic::SwallowRequests;
        if is_request {
            let held = shared.state.lock().unwrap().held.clone();
            if let Some((bytes, until)) = held
                && let Some(at) = find(&buffer[..length], &bytes)
            {
                while find(&buffer[at..length], &until).is_none() {
                    let Ok(more @ 1..) = from.read(&mut buffer[length..]) else { break 'carry };
                    length += more;
                }
            }
            let mut state = shared.state.lock().unwrap();
            let is_it = |(bytes, _): &mut (Vec<u8>, _)| find(&buffer[..length], bytes).is_some();
            if let Some((_, act)) = state.before.take_if(is_it) {
                (state.held, state.is_acting) = (None, true);
                drop(state);
                act();
                shared.state.lock().unwrap().is_acting = false;
            }
        }
        // While only replies vanish, requests go on arriving.
        if is_lost.load(Relaxed) && !(is_request && traffic == Traffic::SwallowReplies) {
            continue;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Of a lost connection not even the end is heard at the other end.
    if !is_lost.load(Relaxed) {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Where these bytes begin.
fn find(buffer: &[u8], bytes: &[u8]) -> Option<usize> {
    buffer.windows(bytes.len()).position(|part| part == bytes)
}
