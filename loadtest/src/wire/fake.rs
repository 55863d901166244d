//! Servers for tests.

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Where a server listens that answers so many requests on each connection with what `answer` says, and then closes it.
/// The request comes with its number on its connection.
pub(crate) async fn serve<Answering>(
    requests: usize,
    answer: impl Fn(String, usize) -> Answering + Clone + Send + 'static,
) -> String
where
    Answering: Future<Output = String> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                for number in 0..requests {
                    let read = socket.read(&mut asked).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&asked[..read]).into_owned();
                    if read == 0 || socket.write_all(answer(request, number).await.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// An answer with this status and body.
pub(crate) fn reply(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
