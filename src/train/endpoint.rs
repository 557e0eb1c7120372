//! The numbers of a run over HTTP, for Prometheus, while it goes.
//!
//! One thread, `tf-prometheus`, sleeps until a client comes or the run ends. It is none of the engine's:
//! it holds no stage, waits for none, and is not counted as awake. What it tells comes through
//! [`latest`], so the thread that trains stores some numbers after a step and waits for nobody.
//!
//! No client can hold up the run or another client:
//!
//! | what | bound |
//! |---|---|
//! | connections at once | [`CONNECTIONS`]; one more takes the place of the oldest |
//! | from the first byte to the last | [`TIME`] |
//! | the head of a request | [`http::MOST`] bytes |
//! | what comes behind it, read so that the answer is not lost | [`REST`] bytes |
//!
//! The end of the run does not wait for a client: open connections are dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::http::{self, Head};
use crate::engine::edge::{Receiver, Sender, channel};
use crate::error::Error;
use crate::report::Progress;
use crate::report::prometheus::{self, CONTENT_TYPE, Names};
use crate::sync::{Arc, JoinHandle, LatestReader, LatestWriter, latest, spawn_named};

const CONNECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(2);
const REST: usize = 64 << 10;
/// How long nobody is let in after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The listening thread; dropped, it has ended.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the endpoint the numbers of each step.
#[derive(Debug)]
pub(super) struct Publisher {
    boards: Sender<Board>,
    writer: Option<LatestWriter>,
    values: Vec<f64>,
}

/// What the page is made of, from the first step on.
#[derive(Debug)]
struct Board {
    names: Names,
    numbers: LatestReader,
}

impl Endpoint {
    /// Listens, and starts the thread.
    pub(super) fn open(asked: SocketAddr) -> Result<(Self, Publisher), Error> {
        let refuse = |e: io::Error| {
            let hint = match e.kind() {
                ErrorKind::AddrInUse => {
                    "another program has it: give another port, or 0 for any that is free"
                }
                ErrorKind::AddrNotAvailable => {
                    "give an address of this machine, or a port alone for this machine only"
                }
                ErrorKind::PermissionDenied => "give a port from 1024 on",
                _ => "",
            };
            Error::input(format!("cannot listen on {asked} for --prometheus: {e}"), hint)
        };
        let listener = TcpListener::bind(asked).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = Arc::new(eventfd(0, flags).map_err(|e| refuse(e.into()))?);
        let (boards, receiver) = channel(1);
        let server =
            Server { listener, stop: stop.clone(), boards: receiver, board: None, pause: None };
        let thread = spawn_named("tf-prometheus", move || server.run()).map_err(refuse)?;
        let publisher = Publisher { boards, writer: None, values: Vec::new() };
        Ok((Endpoint { address, stop, thread: Some(thread) }, publisher))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // It fails only where the counter is full: then it was raised before.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        // A thread that panicked has nothing to hand back, and the run needs nothing of it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Publisher {
    /// A step ended at `time`, in seconds since 1970.
    pub(super) fn step(&mut self, progress: &Progress, time: f64) {
        self.values.clear();
        prometheus::each(progress, time, &mut |_, value| self.values.push(value));
        self.write(Some(progress));
    }

    /// A validation after that step; the other numbers stay those of the step.
    pub(super) fn validated(&mut self, loss: f64) {
        if let Some(value) = self.values.get_mut(prometheus::VAL_LOSS) {
            *value = loss;
            self.write(None);
        }
    }

    fn write(&mut self, first: Option<&Progress>) {
        if let Some(writer) = &mut self.writer {
            writer.write(self.values.iter().copied());
        } else if let Some(names) = first.map(Names::of) {
            let (mut writer, numbers) = latest(names.len());
            writer.write(self.values.iter().copied());
            self.writer = Some(writer);
            // There is room for the only one; a thread that has gone needs none.
            let _ = self.boards.try_send(Board { names, numbers });
        }
    }
}

/// What the thread has.
struct Server {
    listener: TcpListener,
    stop: Arc<OwnedFd>,
    boards: Receiver<Board>,
    board: Option<Board>,
    /// Nobody is let in before.
    pause: Option<Instant>,
}

impl Server {
    fn run(mut self) {
        let mut connections = Vec::with_capacity(CONNECTIONS);
        // Without a way to wait there is no way to serve.
        while self.wait(&connections).unwrap_or(false) {
            self.accept(&mut connections);
            connections.retain_mut(|one: &mut Connection| one.go_on(&mut || self.page()));
        }
    }

    /// Sleeps until there is something to do; false at the end of the run.
    fn wait(&mut self, connections: &[Connection]) -> io::Result<bool> {
        let now = Instant::now();
        self.pause = self.pause.filter(|until| *until > now);
        let mut waits = Vec::with_capacity(2 + CONNECTIONS);
        waits.push(PollFd::new(&self.stop, PollFlags::IN));
        waits.extend(connections.iter().map(|one| PollFd::new(&one.stream, one.wants())));
        if self.pause.is_none() {
            waits.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let times = connections.iter().map(|one| one.until).chain(self.pause);
        // A millisecond more: a wait that ends just before its time would be followed by another.
        let left = times.min().map(|until| until.duration_since(now) + Duration::from_millis(1));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut waits, left.as_ref()) {
            Ok(_) => Ok(waits[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self, connections: &mut Vec<Connection>) {
        // No more at once, so that those that are here are served in between.
        for _ in 0..CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        if connections.len() == CONNECTIONS {
                            connections.remove(0);
                        }
                        connections.push(Connection::new(stream));
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // The client has gone again, or a signal came.
                Err(e)
                    if [ErrorKind::ConnectionAborted, ErrorKind::Interrupted]
                        .contains(&e.kind()) => {}
                // No file is left to open, for example.
                Err(_) => {
                    self.pause = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }

    fn page(&mut self) -> (&'static str, String) {
        if let Ok(board) = self.boards.try_recv() {
            self.board = Some(board);
        }
        let mut text = String::new();
        prometheus::build(&mut text);
        if let Some(Board { names, numbers }) = &mut self.board {
            names.write(&numbers.read().collect::<Vec<f64>>(), &mut text);
        }
        (CONTENT_TYPE, text)
    }
}

/// A client.
struct Connection {
    stream: TcpStream,
    until: Instant,
    head: Vec<u8>,
    /// Empty until the head is there.
    answer: Vec<u8>,
    sent: usize,
    rest: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let until = Instant::now() + TIME;
        Connection { stream, until, head: Vec::new(), answer: Vec::new(), sent: 0, rest: 0 }
    }

    fn wants(&self) -> PollFlags {
        if self.sent < self.answer.len() { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Reads and writes what it can without waiting; false where the connection is over.
    fn go_on(&mut self, page: &mut dyn FnMut() -> (&'static str, String)) -> bool {
        let waits =
            |e: io::Error| [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind());
        Instant::now() < self.until && self.advance(page).unwrap_or_else(waits)
    }

    fn advance(&mut self, page: &mut dyn FnMut() -> (&'static str, String)) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        while self.answer.is_empty() {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            self.head.extend(&buffer[..read]);
            if http::head(&self.head) != Head::Part {
                self.answer = http::answer(&self.head, &mut *page);
            }
        }
        while self.sent < self.answer.len() {
            self.sent += self.stream.write(&self.answer[self.sent..])?;
            if self.sent == self.answer.len() {
                self.stream.shutdown(Shutdown::Write)?;
            }
        }
        // A socket that is closed with something unread may take its answer back on the way. (On
        // loopback it does not, so that no test shows it.)
        loop {
            let read = self.stream.read(&mut buffer)?;
            self.rest += read;
            if read == 0 || self.rest > REST {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS, Endpoint, Publisher, REST, http};
    use crate::report::Progress;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

    fn open() -> (Endpoint, Publisher) {
        Endpoint::open("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        rest(stream)
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\n\r\n";

    #[test]
    fn a_page_has_the_numbers_of_the_last_step_and_of_its_validation() {
        let (endpoint, mut publisher) = open();
        let before = ask(endpoint.address(), GET);
        assert!(before.contains("twelvefold_build_info{") && !before.contains("steps_total"));
        for step in 1..=3 {
            let progress = Progress { step, loss: step as f64, ..Progress::default() };
            publisher.step(&progress, 1.75e9);
            let page = ask(endpoint.address(), GET);
            assert!(page.contains(&format!("\ntwelvefold_loss {step}\n")), "{page}");
            assert!(!page.contains("validation"), "{page}");
        }
        publisher.validated(0.5);
        let page = ask(endpoint.address(), GET);
        assert!(page.contains("\ntwelvefold_loss 3\n"), "{page}");
        assert!(page.contains("\ntwelvefold_validation_loss 0.5\n"), "{page}");
    }

    /// Each sends a part of a request, or nothing, and waits.
    #[test]
    fn clients_that_say_nothing_hold_up_neither_others_nor_the_end() {
        let (endpoint, _publisher) = open();
        let address = endpoint.address();
        let silent: Vec<TcpStream> = (0..3 * CONNECTIONS)
            .map(|i| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&GET[..i % GET.len()]).unwrap();
                stream
            })
            .collect();
        assert!(ask(address, GET).starts_with("HTTP/1.1 200 "));
        drop(endpoint);
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
        drop(silent);
    }

    #[test]
    fn a_client_that_is_too_slow_is_left() {
        let (endpoint, _publisher) = open();
        let mut stream = TcpStream::connect(endpoint.address()).unwrap();
        stream.write_all(b"GET /met").unwrap();
        // Ends although nothing was answered and the other side was not closed here.
        assert_eq!(rest(stream), "");
    }

    #[test]
    fn a_request_that_comes_byte_by_byte_is_answered_and_a_part_of_one_is_not() {
        let (endpoint, _publisher) = open();
        let mut stream = TcpStream::connect(endpoint.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        GET.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        assert!(rest(stream).starts_with("HTTP/1.1 200 "));
        let mut stream = TcpStream::connect(endpoint.address()).unwrap();
        stream.write_all(&GET[..10]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "");
    }

    #[test]
    fn a_head_that_is_too_long_is_told_so_and_one_without_an_end_is_left() {
        let (endpoint, _publisher) = open();
        let long = [&b"GET /"[..], &vec![b'a'; http::MOST + REST / 2]].concat();
        assert!(ask(endpoint.address(), &long).starts_with("HTTP/1.1 431 "));
        // One without an end is left in the middle.
        let mut stream = TcpStream::connect(endpoint.address()).unwrap();
        let block = vec![b'a'; 1 << 16];
        let error = loop {
            if let Err(error) = stream.write_all(&block) {
                break error.kind();
            }
        };
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error), "{error}");
    }

    #[test]
    fn many_clients_at_once_are_all_answered() {
        let (endpoint, mut publisher) = open();
        let address = endpoint.address();
        publisher.step(&Progress { step: 9, ..Progress::default() }, 1.75e9);
        let asks = || {
            for _ in 0..50 {
                assert!(ask(address, GET).contains("twelvefold_steps_total 9"));
            }
        };
        std::thread::scope(|threads| (0..8).for_each(|_| drop(threads.spawn(asks))));
    }

    #[test]
    fn an_address_that_is_taken_is_refused_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let message = Endpoint::open(address).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot listen on {address} for --prometheus: ")));
        assert!(message.contains("hint: another program has it: give another port"), "{message}");
        let message = Endpoint::open("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains("hint: give an address of this machine"), "{message}");
    }
}
