//! The demo's cluster: a master, a sidecar beside it, and a replica a link.

use std::path::{Path, PathBuf};

use anyhow::Result;
use segue_bench::port;
use segue_bench::server::{Options, Server};
use segue_bench::sidecar::Sidecar;
use segue_bench::stores::Store;

pub struct Cluster {
    pub master: Server,
    pub sidecar: Sidecar,
    pub replicas: Vec<Replica>,
}

pub struct Replica {
    pub server: Server,
    /// Where the sidecar listens for this replica.
    link_port: u16,
}

impl Cluster {
    /// Starts sidecar and replicas; nothing replicates yet.
    pub fn start(binary: &Path, master: Server, releases: &[Store]) -> Result<Self> {
        let [admin, metrics] = port::free_ports()?;
        let mut replicas = Vec::new();
        for release in releases {
            let [link_port] = port::free_ports()?;
            replicas.push(Replica { server: Server::start(release, Options::new())?, link_port });
        }
        let sidecar = Sidecar::start(binary, &configuration(&master, &replicas, admin, metrics))?;
        Ok(Self { master, sidecar, replicas })
    }

    /// Points every replica at its link of the sidecar.
    pub fn attach_replicas(&self) -> Result<()> {
        self.replicas.iter().try_for_each(|replica| replica.server.replicate_from(replica.link_port))
    }

    /// Ends everything and leaves data and logs behind.
    pub fn keep_folders(self) -> Vec<PathBuf> {
        let servers = self.replicas.into_iter().map(|replica| replica.server).chain([self.master]);
        let mut folders: Vec<PathBuf> = servers.map(Server::keep_folder).collect();
        folders.push(self.sidecar.keep_folder());
        folders
    }
}

/// One inbound link a replica: which one dials tells who it is.
fn configuration(master: &Server, replicas: &[Replica], admin: u16, metrics: u16) -> String {
    let mut text = format!(
        "[node]\nid = \"n1\"\nprotocol = \"redis\"\nstore = \"{}\"\nrelease = \"auto\"\n",
        master.address()
    );
    for (number, replica) in (2_u32..).zip(replicas) {
        let (store, link) = (replica.server.address(), replica.link_port);
        text += &format!(
            "\n[[peer]]\nid = \"n{number}\"\nstore = \"{store}\"\nrelease = \"auto\"\n\
             \n[[link]]\nlisten = \"127.0.0.1:{link}\"\nto = \"store\"\npeer = \"n{number}\"\n"
        );
    }
    text + &format!(
        "\n[translation]\nmode = \"auto\"\nloss = \"refuse\"\n\
         \n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n"
    )
}
