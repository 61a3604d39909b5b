//! Every form of every write command, from every master to every replica at once.

mod board;
mod links;

use anyhow::Result;
use segue_bench::{
    forms::{self, Form, Taken},
    progress::Progress,
    server::{Options, Server},
    stores::{self, CATALOGUE, Entry, Family, Store, StoreName, Version},
};
use segue_redis::releases::{recognize, verdict};
use segue_wire::{Release, Verdict};

use board::{Board, Cell};
use links::{Differing, Links};

/// A form that a master before 7.0 replicates otherwise than it did it itself: no rule can help, and the same
/// happens without Segue. A replica of this release shows it beside the others, with no Segue between; so does
/// the replica of the master's own release. (6.2 and before claim entries that are deleted, which a replica from 7.0
/// on removes from the pending list.)
const WITNESS: &str = "redis-7.0";

/// Masters before 7.0 send most expiries as time left, which begins to run when a replica gets it.
fn sends_time_left(master: &Server) -> bool {
    let store = master.store();
    store.family == Family::Redis && store.version < Version::new(7, 0, 0)
}

/// Whether the witness stands for this replica: it is of 7.0 or later, and hears what the master sends.
fn is_like_witness(master: &Server, replica: &Server) -> bool {
    let (Some(from), Some(to)) = (release(master.store()), release(replica.store())) else { return false };
    let is_old = replica.store().family == Family::Redis && replica.store().version < Version::new(7, 0, 0);
    !is_old && verdict(&from, &to) == Verdict::Same
}

/// Run with `--nocapture` for the table; `SEGUE_FORMS_MASTERS=redis-8.10,valkey` takes fewer masters.
#[test]
fn every_form_reaches_every_replica() -> Result<()> {
    let names: Vec<StoreName> = CATALOGUE.iter().map(Entry::name).collect();
    let progress = Progress::new("stores");
    let stores = stores::fetch(&names, &progress);
    progress.finish();
    let stores = stores?;
    let witness = Store::want(WITNESS)?;
    let start = |store| Server::start(store, Options::new());
    let replicas: Vec<Server> = stores.iter().map(start).collect::<Result<_>>()?;
    let only = std::env::var("SEGUE_FORMS_MASTERS").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|only| name.starts_with(only));

    let forms = forms::all()?;
    let mut board = Board::new(&replicas);
    for store in stores.iter().filter(|store| wanted(&store.name()) && is_linked_to_all(store, &stores)) {
        let master = start(store)?;
        let witness = sends_time_left(&master).then(|| start(&witness)).transpose()?;
        let links = Links::start(&master, &replicas, witness.as_ref())?;
        let taken = run(&forms, &master, &links, &mut board)?;
        board.add(&store.name(), taken.len(), judge(&taken, &master, &links)?);
    }
    println!("{board}");
    board.verdict(&forms, stores.len())
}

/// Whether no pair with this master is refused: such a master is left out.
fn is_linked_to_all(master: &Store, replicas: &[Store]) -> bool {
    replicas.iter().all(|replica| match (release(master), release(replica)) {
        (Some(from), Some(to)) => !matches!(verdict(&from, &to), Verdict::Refuse(_)),
        _ => false,
    })
}

fn release(store: &Store) -> Option<Release> {
    recognize(store.family.label(), &store.version.to_string())
}

/// The forms that the master has.
fn run<'a>(
    forms: &'a [Form],
    master: &Server,
    links: &Links<'_>,
    board: &mut Board,
) -> Result<Vec<&'a Form>> {
    let mut taken = Vec::new();
    for form in forms {
        match form.run(master.port())? {
            Taken::Yes => taken.push(form),
            Taken::No(refused) => board.refused(form.name, refused),
        }
        links.note_losses()?;
    }
    links.await_equal_offsets()?;
    links.note_losses()?;
    Ok(taken)
}

fn judge(taken: &[&Form], master: &Server, links: &Links<'_>) -> Result<Vec<Cell>> {
    let differing = links.differing_forms()?;
    let own = links.replicas.iter().position(|replica| replica.store().name() == master.store().name());
    let upstream = own.and_then(|own| differing.get(own)).cloned().unwrap_or_default();
    let witnessed = links.differing_without()?;
    // A time that is a little later there explains no other time here.
    let shows = |by: &Differing, form: &str| by.get(form).is_some_and(|found| !found.is_later);
    let mut cells = Vec::new();
    for (at, (replica, differing)) in links.replicas.iter().zip(&differing).enumerate() {
        let mut cell = Cell { rejected: links.rejected(at), ..Cell::default() };
        for (form, found) in differing {
            if links.is_declared(at, form) {
                cell.declared.insert(form.clone());
            } else if shows(&upstream, form)
                || (found.is_later && sends_time_left(master))
                || (shows(&witnessed, form) && is_like_witness(master, replica))
            {
                cell.upstream.insert(form.clone());
            } else {
                cell.differing.push(format!("{form}: {}", found.what));
            }
        }
        cell.equal = taken.len().saturating_sub(differing.len());
        cells.push(cell);
    }
    links.assert_never_made_anew()?;
    Ok(cells)
}
