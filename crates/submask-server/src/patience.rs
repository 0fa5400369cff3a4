//! How long a client may take to read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes with which patience begins anew.
const PORTION: usize = 1 << 14;

/// A connection whose writes fail once its client has not taken the next 16 KiB, or all that waits, within a time.
pub struct Patience<S> {
    stream: S,
    limit: Duration,
    /// When patience ends, while there is something that the client does not take.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Bytes taken since then.
    taken: usize,
    lost: Counter,
}

impl<S> Patience<S> {
    /// Of `limit`; clients that lose it are counted in `lost`.
    pub fn new(stream: S, limit: Duration, lost: Counter) -> Self {
        let deadline = Box::pin(tokio::time::sleep(limit));
        Self { stream, limit, deadline, is_waiting: false, taken: 0, lost }
    }

    /// What a write came to, or its failure once patience is at an end.
    fn judge(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes;
                if self.taken >= PORTION {
                    self.is_waiting = false;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if !self.is_waiting {
                    (self.is_waiting, self.taken) = (true, 0);
                    self.deadline.as_mut().reset(Instant::now() + self.limit);
                }
                if self.deadline.as_mut().poll(cx).is_ready() {
                    self.lost.inc();
                    let message = "the client takes too long to read";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
                }
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called once all that there was is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_waiting = false;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off_in_time() {
        let (_client, server) = duplex(1000);
        let lost = Counter::default();
        let mut server = Patience::new(server, LIMIT, lost.clone());
        let begin = Instant::now();
        server.write_all(&[0; 1000]).await.unwrap();
        server.flush().await.unwrap();
        // What is written may lie for as long as it likes.
        tokio::time::sleep(10 * LIMIT).await;
        assert_eq!(server.write(&[0; 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((begin.elapsed(), lost.get()), (11 * LIMIT, 1));
    }

    /// Writes much to a client that takes `bytes` every second.
    async fn written(bytes: usize) -> io::Result<()> {
        let (mut client, server) = duplex(1000);
        let mut server = Patience::new(server, LIMIT, Counter::default());
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while client.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let written = server.write_all(&[0; 200_000]).await;
        reader.abort();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_is_cut_off_and_one_that_reads_is_not() {
        written(2000).await.unwrap();
        assert_eq!(written(100).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
