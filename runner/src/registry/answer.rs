//! Answers that are read as a whole, bounded in size and time.

use std::time::Duration;

use reqwest::Response;

use super::failure::Failure;

/// How long an answer may take that is no layer: a few kilobytes, at most some megabytes.
const WHOLE: Duration = Duration::from_secs(120);

/// Reads a whole answer of at most `most` bytes.
pub(super) async fn read(host: &str, response: Response, most: u64) -> Result<Vec<u8>, Failure> {
    read_within(host, response, most, WHOLE).await
}

/// As [`read`], in this time: one who is never silent for long could go on for weeks.
async fn read_within(
    host: &str,
    response: Response,
    most: u64,
    patience: Duration,
) -> Result<Vec<u8>, Failure> {
    let late = |_| {
        let seconds = patience.as_secs();
        Failure::Short(format!("`{host}` had not sent its whole answer after {seconds} s"))
    };
    tokio::time::timeout(patience, read_all(host, response, most)).await.map_err(late)?
}

async fn read_all(host: &str, mut response: Response, most: u64) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| Failure::transport(host, error))?
    {
        if (body.len() + chunk.len()) as u64 > most {
            return Err(Failure::Refused(format!(
                "`{host}` answers with more than the {most} bytes that were to be expected"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;
    use crate::registry::tls;

    #[test]
    fn an_answer_that_trickles_without_end_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.read_exact(&mut [0; 16]).unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").unwrap();
            // Until the other side has had enough.
            while connection.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let tls = tls::configuration(None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failure = runtime.block_on(async {
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .no_proxy()
                .build()
                .unwrap();
            let response = client.get(url).send().await.unwrap();
            read_within("r.example", response, 1 << 20, Duration::from_millis(200)).await
        });
        let failure = failure.unwrap_err();
        assert!(failure.to_string().contains("had not sent its whole answer"), "{failure}");
        drop(runtime);
        server.join().unwrap();
    }
}
