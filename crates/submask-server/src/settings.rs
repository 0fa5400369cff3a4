//! How a server runs: where, for whom, and within which limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderValue, Uri};
use submask::{Error, Result};

use crate::token::Token;

/// Port of the default address.
pub const PORT: u16 = 8080;

/// How a server runs. The defaults are those of `submask serve`.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens; port 0 takes any that is free.
    pub addr: SocketAddr,
    /// The token that clients have to show.
    pub token: Option<Token>,
    /// Whether an address that other machines reach may be served without a token.
    pub insecure: bool,
    /// Web pages of these origins may call the server from a browser: `https://example.org`, or `*` for all.
    pub cors: Vec<String>,
    /// Sequences per network evaluation, per model.
    pub max_batch: usize,
    /// Requests that wait per model, beyond those that are computed.
    pub max_queue: usize,
    /// Tokens of one request in all: those given and those to be written, of all its choices.
    pub max_tokens: usize,
    /// Choices of one request in all.
    pub max_choices: usize,
    /// Bytes of a body.
    pub max_body: usize,
    /// Bytes of a body of the routes that take pictures or many texts.
    pub max_large_body: usize,
    /// Clients connected at once.
    pub max_connections: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long the head of a request may take to come.
    pub header_timeout: Duration,
    /// How long the body of a request may take to come.
    pub body_timeout: Duration,
    /// How long a client may take for the next 16 KiB of an answer, or for what is left of it.
    pub slow_reader: Duration,
    /// Bytes of a stream that may wait for its client.
    pub stream_buffer: usize,
    /// Whether logs have the texts of users.
    pub log_texts: bool,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
            token: None,
            insecure: false,
            cors: Vec::new(),
            max_batch: 16,
            max_queue: 64,
            max_tokens: 1 << 16,
            max_choices: 128,
            max_body: 1 << 20,
            max_large_body: 1 << 24,
            max_connections: 256,
            timeout: Duration::from_secs(600),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            slow_reader: Duration::from_secs(10),
            stream_buffer: 1 << 22,
            log_texts: false,
        }
    }
}

/// Most connections: more than a process may have open.
const MAX_CONNECTIONS: usize = 1 << 20;
/// Longest of all times, so that no sum of times overflows: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl ServerSettings {
    /// Checks all of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting, and [`Error::Needed`] for a token that is missing.
    pub fn validate(&self) -> Result<()> {
        if !self.is_loopback() && self.token.is_none() && !self.insecure {
            let reason = format!("other machines reach {}", self.addr);
            return Err(Error::Needed { field: "token".to_owned(), reason });
        }
        if self.insecure && self.token.is_some() {
            return Err(Error::invalid(
                "insecure",
                true,
                "nothing beside a token, which is asked for anyway",
            ));
        }
        let numbers = [
            ("max_batch", self.max_batch),
            ("max_tokens", self.max_tokens),
            ("max_choices", self.max_choices),
            ("max_body", self.max_body),
            ("max_large_body", self.max_large_body),
            ("max_connections", self.max_connections),
            ("stream_buffer", self.stream_buffer),
        ];
        if let Some((name, given)) = numbers.into_iter().find(|(_, given)| *given == 0) {
            return Err(Error::invalid(name, given, "at least 1"));
        }
        if self.max_connections > MAX_CONNECTIONS {
            let allowed = format!("at most {MAX_CONNECTIONS}");
            return Err(Error::invalid("max_connections", self.max_connections, allowed));
        }
        let times = [
            ("timeout", self.timeout),
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("slow_reader", self.slow_reader),
        ];
        if let Some((name, given)) = times.into_iter().find(|(_, given)| given.is_zero() || *given > LONGEST)
        {
            let allowed = "a number of seconds above 0, of at most a year";
            return Err(Error::invalid(name, given.as_secs_f64(), allowed));
        }
        self.cors.iter().try_for_each(|origin| check_origin(origin))
    }

    /// Whether only programs of the same machine reach the server.
    pub fn is_loopback(&self) -> bool {
        self.addr.ip().to_canonical().is_loopback()
    }
}

/// That a text is an origin, as browsers send it.
fn check_origin(origin: &str) -> Result<()> {
    let is_origin = || {
        let uri: Uri = origin.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let plain = format!("{scheme}://{authority}");
        (plain == origin && !authority.as_str().contains('@')).then_some(())
    };
    let is_header = HeaderValue::from_str(origin).is_ok();
    match origin == "*" || (is_header && is_origin().is_some()) {
        true => Ok(()),
        false => {
            let allowed =
                "an origin such as https://example.org or http://localhost:3000, without a path, or *";
            Err(Error::invalid("cors", format!("{origin:?}"), allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl Fn(&mut ServerSettings)) -> Result<()> {
        let mut settings = ServerSettings::default();
        change(&mut settings);
        settings.validate()
    }

    #[test]
    fn other_machines_need_a_token() {
        let token = || Some(Token::new("secret").unwrap());
        for open in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "[::ffff:10.0.0.1]:80"] {
            let addr: SocketAddr = open.parse().unwrap();
            let error = with(|settings| settings.addr = addr).unwrap_err().to_string();
            assert!(error.contains(open) && error.starts_with("token has to be given"), "{error}");
            with(|settings| (settings.addr, settings.insecure) = (addr, true)).unwrap();
            with(|settings| (settings.addr, settings.token) = (addr, token())).unwrap();
        }
        for own in ["127.0.0.1:0", "127.3.2.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            with(|settings| settings.addr = own.parse().unwrap()).unwrap();
        }
        assert!(with(|settings| (settings.insecure, settings.token) = (true, token())).is_err());
    }

    #[test]
    fn limits_are_above_zero() {
        let error = with(|settings| settings.max_batch = 0).unwrap_err().to_string();
        assert_eq!(error, "max_batch = 0 is not allowed: at least 1");
        with(|settings| settings.max_queue = 0).unwrap();
        assert!(with(|settings| settings.max_connections = usize::MAX).is_err());
        let error = with(|settings| settings.timeout = Duration::ZERO).unwrap_err().to_string();
        assert!(error.starts_with("timeout = 0 is not allowed"), "{error}");
        assert!(with(|settings| settings.slow_reader = Duration::MAX).is_err());
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for origin in ["*", "https://example.org", "http://localhost:3000", "http://[::1]:80"] {
            with(|settings| settings.cors = vec![origin.to_owned()]).unwrap();
        }
        for wrong in
            ["", "example.org", "https://example.org/", "https://a b", "https://u@example.org", "a\nb"]
        {
            let error = with(|settings| settings.cors = vec![wrong.to_owned()]).unwrap_err().to_string();
            assert!(error.contains("cors") && error.contains("https://example.org"), "{error}");
        }
    }
}
