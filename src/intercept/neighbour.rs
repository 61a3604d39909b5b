//! A neighbour of this host that lives as long as a thread: a network of its own, joined to the host's by a
//! veth pair. Where the process ends before the thread has taken both away, the kernel does.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

#[expect(deprecated, reason = "as below")]
use rustix::thread::unshare;
use rustix::thread::{UnshareFlags, gettid};

use super::{apply::ip, plan::Family};

/// The two ends of the pair: of the networks for benchmarks (RFC 2544) and for documentation (RFC 3849).
pub(super) const HOST_4: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 253);
const GUEST_4: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);
pub(super) const HOST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x5e60, 0, 0, 0, 0, 1);
const GUEST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x5e60, 0, 0, 0, 0, 2);
/// Locally administered.
const HOST_MAC: &str = "02:00:5e:60:00:01";
const GUEST_LINK: &str = "segue";

type Job = Box<dyn FnOnce() -> Result<String, String> + Send>;

pub(super) struct Neighbour {
    /// None once it is being taken away.
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<String, String>>,
    thread: Option<JoinHandle<()>>,
    /// The host's end of the pair, once there is one.
    host_link: Option<String>,
}

impl Neighbour {
    /// # Errors
    /// No leave to (CAP_SYS_ADMIN and CAP_NET_ADMIN), no `ip`, no veth in this kernel; in words.
    pub fn new(families: &[Family]) -> Result<Self, String> {
        let (jobs, todo) = channel::<Job>();
        let (told, done) = channel();
        let thread = thread::spawn(move || {
            for job in todo {
                if told.send(job()).is_err() {
                    return;
                }
            }
        });
        let mut neighbour = Self { jobs: Some(jobs), done, thread: Some(thread), host_link: None };
        let task = neighbour.run(|| {
            #[expect(deprecated, reason = "its successor is unsafe, for the sake of other namespaces")]
            let moved = unshare(UnshareFlags::NEWNET);
            moved.map_err(|error| format!("no network of its own (it needs CAP_SYS_ADMIN): {error}"))?;
            Ok(gettid().as_raw_nonzero().to_string())
        })?;
        // At most 15 bytes: "sgv" and a task's number.
        let host_link = format!("sgv{task}");
        let network = format!("/proc/{}/task/{task}/ns/net", process::id());
        configure(&format!(
            "link add {host_link} address {HOST_MAC} type veth peer name {GUEST_LINK} netns {network}"
        ))?;
        neighbour.host_link = Some(host_link.clone());
        configure(&format!("link set {host_link} up"))?;
        for family in families {
            let (host, guest) = match family {
                Family::Ipv4 => (format!("{HOST_4}/30"), format!("{GUEST_4}/30")),
                Family::Ipv6 => (format!("{HOST_6}/126"), format!("{GUEST_6}/126")),
            };
            configure(&address(&host, &host_link))?;
            neighbour.run(move || configure(&address(&guest, GUEST_LINK)))?;
        }
        neighbour.run(|| configure(&format!("link set {GUEST_LINK} up")))?;
        for family in families {
            let host = match family {
                Family::Ipv4 => IpAddr::V4(HOST_4),
                Family::Ipv6 => IpAddr::V6(HOST_6),
            };
            // Told and not asked for: the host would not answer a neighbour of a foreign address.
            let known = format!("neighbour add {host} lladdr {HOST_MAC} dev {GUEST_LINK} nud permanent");
            neighbour.run(move || configure(&known))?;
        }
        Ok(neighbour)
    }

    /// Lets the neighbour have one more address.
    pub fn be_also(&self, ip: IpAddr) -> Result<(), String> {
        let width = if ip.is_ipv4() { 32 } else { 128 };
        self.run(move || configure(&address(&format!("{ip}/{width}"), GUEST_LINK))).map(drop)
    }

    /// Does something there.
    pub fn run(
        &self,
        job: impl FnOnce() -> Result<String, String> + Send + 'static,
    ) -> Result<String, String> {
        let gone = || "the neighbour's thread ended badly".to_owned();
        self.jobs.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
        self.done.recv().map_err(|_| gone())?
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if let Some(host_link) = &self.host_link {
            // The kernel would do it some time after the thread's end. Nothing is left to tell an error to.
            let _gone = configure(&format!("link delete {host_link}"));
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing more to tell.
            let _ended = thread.join();
        }
    }
}

/// Usable at once: nobody else is asked whether an IPv6 address is taken.
fn address(address: &str, link: &str) -> String {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("address replace {address} dev {link}{nodad}")
}

fn configure(command: &str) -> Result<String, String> {
    let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
    ip(&arguments).map_err(|error| error.to_string())
}
