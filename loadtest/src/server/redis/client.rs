//! A client for questions in between: RESP2 over plain TCP, one command at a time.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::url::RedisUrl;

/// How long an answer may take: Redis does one thing at a time.
const LIMIT: Duration = Duration::from_secs(10);
/// A longer text is not the answer to anything asked here.
const MAX_TEXT_BYTES: usize = 16 * 1024 * 1024;

/// A connection to a Redis.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, says who it is, and makes sure that commands are answered.
    pub(super) async fn connect(url: &RedisUrl) -> anyhow::Result<Self> {
        let connecting = tokio::time::timeout(LIMIT, TcpStream::connect(url.address()));
        let stream = match connecting.await {
            Ok(connected) => connected.with_context(|| format!("cannot connect to Redis at {url}"))?,
            Err(_) => bail!("no connection to Redis at {url} within {} s", LIMIT.as_secs()),
        };
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream) };
        match url.credentials() {
            Some((user, password)) if user.is_empty() => client.ask(&["AUTH", &password]).await?,
            Some((user, password)) => client.ask(&["AUTH", &user, &password]).await?,
            None => Vec::new(),
        };
        if let Some(database) = url.database() {
            client.ask(&["SELECT", database]).await?;
        }
        client.ask(&["PING"]).await?;
        Ok(client)
    }

    /// Sends a command; its answer as a list of texts, arrays within arrays one after the other.
    pub(super) async fn ask(&mut self, command: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut request = format!("*{}\r\n", command.len());
        for argument in command {
            request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
        }
        // Arguments may be a password: only the command's name is shown.
        let name = command.first().copied().unwrap_or_default();
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.answer().await
        };
        match tokio::time::timeout(LIMIT, exchange).await {
            Ok(answer) => answer.with_context(|| format!("asking Redis for {name}")),
            Err(_) => bail!("Redis did not answer {name} within {} s", LIMIT.as_secs()),
        }
    }

    async fn answer(&mut self) -> anyhow::Result<Vec<String>> {
        let mut texts = Vec::new();
        let mut outstanding: usize = 1;
        while outstanding > 0 {
            outstanding -= 1;
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            let line = line.strip_suffix("\r\n").context("the connection was closed")?;
            let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
            match kind {
                "+" | ":" => texts.push(rest.to_owned()),
                "-" => bail!("it answered: {rest}"),
                "$" => texts.push(self.text(rest.parse()?).await?),
                "*" => outstanding += rest.parse::<usize>()?,
                _ => bail!("this is not RESP2: {line}"),
            }
        }
        Ok(texts)
    }

    /// A text of so many bytes and the end of its line.
    async fn text(&mut self, length: usize) -> anyhow::Result<String> {
        ensure!(length <= MAX_TEXT_BYTES, "a text of {length} bytes");
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(String::from_utf8(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Connects to something that answers PING and then whatever is given.
    async fn ask(answer: &'static str) -> anyhow::Result<Vec<String>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = RedisUrl::on_loopback(listener.local_addr().expect("an address").port());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            for (asked, answer) in [("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"), ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", answer)] {
                let mut read = vec![0; asked.len()];
                socket.read_exact(&mut read).await.expect("a command");
                assert_eq!(read, asked.as_bytes());
                socket.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        Client::connect(&url).await.expect("a client").ask(&["GET", "k"]).await
    }

    #[tokio::test]
    async fn answers_of_every_kind_become_texts() {
        for (answer, texts) in [
            ("+OK\r\n", vec!["OK"]),
            (":42\r\n", vec!["42"]),
            ("$6\r\na\r\nb\r\n\r\n", vec!["a\r\nb\r\n"]),
            ("*0\r\n", vec![]),
            ("*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n", vec!["17", "a", ""]),
        ] {
            assert_eq!(ask(answer).await.expect("an answer"), texts, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_errors() {
        for (answer, told) in [
            ("-NOAUTH Authentication required.\r\n", "NOAUTH"),
            ("HTTP/1.1 400 Bad Request\r\n", "not RESP2"),
            ("$5\r\nab", "GET"),
            ("", "closed"),
        ] {
            let error = format!("{:#}", ask(answer).await.expect_err(answer));
            assert!(error.contains(told), "{answer:?}: {error}");
        }
    }
}
