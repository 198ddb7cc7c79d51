//! From the addresses of a host to a connection: happy eyeballs (RFC 8305) in a small form.
//!
//! An address that does not answer, as of a family without a route, delays a connection only for a moment: the next address is
//! tried beside it. The first connection wins, and the other attempts end with it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time after which the next address is tried beside those that have not answered.
const NEXT: Duration = Duration::from_millis(250);
/// Maximum number of addresses that are tried.
const ADDRESSES: usize = 8;

/// Orders addresses for the attempts: the families in turn, beginning with that of the first one. Of many addresses the first
/// ones of each family are taken.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_first_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered: Vec<SocketAddr> = Vec::new();
    loop {
        let next = [first.next(), second.next()];
        if next == [None, None] {
            break;
        }
        for address in next.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
    ordered.truncate(ADDRESSES);
    ordered
}

/// Connects to the first address that answers. Without a limit of time for all of them.
///
/// # Errors
/// Returns the reasons of all addresses, in words.
pub(super) async fn connect_first(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let addresses = in_turn(addresses);
    let is_one = addresses.len() == 1;
    let mut rest = addresses.into_iter();
    // Ends the other attempts on drop.
    let mut open = JoinSet::new();
    let mut reasons: Vec<String> = Vec::new();
    loop {
        if let Some(address) = rest.next() {
            open.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let answer = if rest.len() == 0 {
            open.join_next().await
        } else {
            match timeout(NEXT, open.join_next()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        };
        match answer {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((_, Err(error)))) if is_one => reasons.push(error.to_string()),
            Some(Ok((address, Err(error)))) => reasons.push(format!("{}: {error}", address.ip())),
            Some(Err(error)) => reasons.push(error.to_string()),
            None if reasons.is_empty() => return Err("it has no address".into()),
            None => return Err(reasons.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Time within which a connection has to come: attempts that wait for each other take minutes.
    const SOON: Duration = Duration::from_secs(8);

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A listener whose backlog is full: further connections get no answer.
    struct Silent {
        listener: TcpListener,
        waiting: Vec<tokio::task::JoinHandle<()>>,
    }

    impl Silent {
        async fn at(address: SocketAddr) -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            let silent = Silent { listener: socket.listen(1).unwrap(), waiting: Vec::new() };
            silent.filled().await
        }

        async fn filled(mut self) -> Self {
            let address = self.address();
            loop {
                let (sender, connected) = tokio::sync::oneshot::channel();
                self.waiting.push(tokio::spawn(async move {
                    let stream = TcpStream::connect(address).await;
                    let _ = sender.send(());
                    std::future::pending::<()>().await;
                    drop(stream);
                }));
                if timeout(Duration::from_millis(300), connected).await.is_err() {
                    return self;
                }
            }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().unwrap()
        }

        /// Returns the number of connections that wait for an answer (`SYN_SENT`).
        fn unanswered(&self) -> usize {
            let SocketAddr::V4(address) = self.address() else { panic!("it is no IPv4 address") };
            let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
            let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
            let is_unanswered = |line: &&str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields[2] == remote && fields[3] == "02"
            };
            table.lines().filter(is_unanswered).count()
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            self.waiting.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }

    /// Returns a silent address and a listener at another address with the same port.
    async fn silent_and_listener() -> (Silent, TcpListener) {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let place = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
            if std::net::TcpListener::bind(place).is_ok() {
                return (Silent::at(place).await, listener);
            }
        }
    }

    #[test]
    fn families_take_turns() {
        let found = addresses(&["[fd00::1]:1", "[fd00::2]:1", "[fd00::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let ordered = addresses(&["[fd00::1]:1", "10.0.0.1:1", "[fd00::2]:1", "10.0.0.2:1", "[fd00::3]:1"]);
        assert_eq!(in_turn(found), ordered);
        let twice = addresses(&["10.0.0.1:1", "10.0.0.1:1", "[fd00::1]:1"]);
        assert_eq!(in_turn(twice), addresses(&["10.0.0.1:1", "[fd00::1]:1"]));
        assert_eq!(in_turn(Vec::new()), []);
        let many = (0..200).map(|number| SocketAddr::from(([10, 0, 0, number], 1)));
        let many: Vec<_> = many.chain(addresses(&["[fd00::1]:1"])).collect();
        let ordered = in_turn(many);
        assert_eq!(ordered.len(), ADDRESSES);
        assert!(ordered[1].is_ipv6());
    }

    #[tokio::test]
    async fn silent_address_is_passed_over_and_its_attempt_ends() {
        let (silent, listener) = silent_and_listener().await;
        let (before, began) = (silent.unanswered(), Instant::now());
        let place = listener.local_addr().unwrap();
        let connected = timeout(SOON, connect_first(vec![silent.address(), place])).await;
        let stream = connected.expect("the second address waits for the first").unwrap();
        assert!(began.elapsed() >= NEXT);
        assert_eq!(stream.peer_addr().unwrap(), place);
        while silent.unanswered() > before {
            assert!(began.elapsed() < SOON, "the attempt goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn refusing_address_is_passed_over_at_once() {
        let (silent, listener) = silent_and_listener().await;
        let port = listener.local_addr().unwrap().port();
        let refusing = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 4), port));
        let all = vec![refusing, silent.address(), refusing, listener.local_addr().unwrap()];
        timeout(SOON, connect_first(all)).await.unwrap().unwrap();
        drop(listener);
        let place = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 3), port));
        let reason = timeout(SOON, connect_first(vec![refusing, place])).await.unwrap().unwrap_err();
        assert!(reason.contains("127.0.0.4: ") && reason.contains("127.0.0.3: "), "{reason}");
        let reason = connect_first(vec![refusing]).await.unwrap_err();
        assert!(reason.starts_with("Connection refused"), "{reason}");
        assert_eq!(connect_first(Vec::new()).await.unwrap_err(), "it has no address");
    }
}
