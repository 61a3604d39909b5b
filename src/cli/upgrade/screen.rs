//! The live view of an upgrade on a terminal.

use std::{
    io,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::Line,
    widgets::{Block, Gauge, Paragraph, Row, Table, Wrap},
};

use super::{super::table::plain, show};
use crate::status::upgrade::{JournalLine, StepState, TransactionStatus, UpgradeNode, UpgradeStatus};

/// How often keys are looked for.
const KEYS_INTERVAL: Duration = Duration::from_millis(100);
const COLUMNS: usize = show::HEADERS.len();
/// Between two columns.
const SPACING: u16 = 2;
/// On a terminal that is too narrow for all columns.
const DROPPED_FIRST: [&str; 3] = ["BEHIND", "GENERATION", "IN SYNC"];
// Heights, in lines.
const BORDERS: u16 = 2;
const HEAD: u16 = 2;
const GAUGE: u16 = 1;
const FOOT: u16 = 1;
/// What is left for them where there is room for little.
const NODES_MIN: u16 = BORDERS + 3;
const JOURNAL_MIN: u16 = BORDERS + 1;

/// The terminal, until it is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    paint: Paint,
}

/// What is marked by a colour, with colours or without.
#[derive(Clone, Copy)]
struct Paint {
    colors: bool,
}

impl Paint {
    fn in_color(self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    /// Not to be overlooked.
    fn alarm(self) -> Style {
        if self.colors { self.in_color(Color::Red) } else { Style::new().bold() }
    }
}

impl Screen {
    pub fn open(colors: bool) -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()?, paint: Paint { colors } })
    }

    /// `trouble`: why the status is not new.
    pub fn draw(&mut self, status: &UpgradeStatus, trouble: Option<&str>) -> io::Result<()> {
        let paint = self.paint;
        self.terminal.draw(|frame| draw(frame, status, trouble, paint)).map(drop)
    }

    /// Waits; `Break` where the operator has seen enough (q, escape, ctrl-c).
    pub async fn pause(&mut self, time: Duration) -> io::Result<ControlFlow<()>> {
        let until = Instant::now() + time;
        loop {
            while event::poll(Duration::ZERO)? {
                let Event::Key(key) = event::read()? else { continue };
                let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if ctrl_c || matches!(key.code, KeyCode::Esc | KeyCode::Char('q')) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if Instant::now() >= until {
                return Ok(ControlFlow::Continue(()));
            }
            tokio::time::sleep(KEYS_INTERVAL).await;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // With the terminal gone, nobody sees what it is left as.
        let _gone = ratatui::try_restore();
    }
}

fn draw(frame: &mut Frame<'_>, status: &UpgradeStatus, trouble: Option<&str>, paint: Paint) {
    let area = frame.area();
    let is_paused = status.transaction.as_ref().is_some_and(|transaction| transaction.paused.is_some());
    let notes = now(status, is_paused, paint);
    let rows = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(BORDERS);
    // With its borders.
    let now_lines = notes.line_count(area.width.saturating_sub(BORDERS));
    let now_height = u16::try_from(now_lines).unwrap_or(u16::MAX);
    let all_nodes = rows(status.nodes.len() + 1);
    let left = area.height.saturating_sub(HEAD + GAUGE + JOURNAL_MIN + FOOT).saturating_sub(now_height);
    let [head, nodes, progress, now, journal, foot] = Layout::vertical([
        Constraint::Length(HEAD),
        Constraint::Length(all_nodes.min(left.max(NODES_MIN))),
        Constraint::Length(GAUGE),
        Constraint::Length(now_height),
        Constraint::Min(0),
        Constraint::Length(FOOT),
    ])
    .areas(area);
    let head_lines = vec![Line::from(show::headline(status)).bold(), Line::from(show::mesh(status)).dim()];
    frame.render_widget(Paragraph::new(head_lines), head);
    draw_nodes(frame, &status.nodes, nodes, paint);
    if let Some(transaction) = &status.transaction {
        frame.render_widget(gauge(transaction, is_paused, paint), progress);
    }
    frame.render_widget(notes, now);
    let ago = |line: &JournalLine| show::since(line.at_ms, status.at_ms);
    let lines = status.journal.iter().map(|line| format!("{:>7} ago  {}", ago(line), show::journal(line)));
    frame.render_widget(
        Paragraph::new(lines.map(Line::from).collect::<Vec<_>>())
            .block(Block::bordered().title("journal, newest first")),
        journal,
    );
    let foot_line = match trouble {
        Some(trouble) => Line::from(format!("no news: {}", plain(trouble))).style(paint.alarm()),
        None => Line::from("q: leave; the upgrade goes on").dim(),
    };
    frame.render_widget(foot_line, foot);
}

fn now(status: &UpgradeStatus, is_paused: bool, paint: Paint) -> Paragraph<'static> {
    let style = if is_paused { paint.in_color(Color::Yellow) } else { Style::new() };
    let lines: Vec<_> = show::notes(status).into_iter().chain(show::end(status)).map(Line::from).collect();
    Paragraph::new(lines).wrap(Wrap { trim: false }).style(style).block(Block::bordered().title("now"))
}

fn draw_nodes(frame: &mut Frame<'_>, nodes: &[UpgradeNode], area: Rect, paint: Paint) {
    let mut nodes: Vec<_> = nodes.iter().collect();
    let room = usize::from(area.height.saturating_sub(BORDERS + 1));
    let title = match nodes.len().checked_sub(room) {
        Some(hidden @ 1..) => {
            // Where not all can be shown, those at which something goes on.
            nodes.sort_by_key(|node| (!is_stuck(node), !is_on_its_way(node)));
            format!("{hidden} more nodes: segue upgrade status")
        }
        _ => String::new(),
    };
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            let [id, role, release, generation, in_sync, behind, step] = show::node(node);
            (*node, [id, role, release, generation, in_sync, behind, bar(node) + &step])
        })
        .collect();
    let columns = columns(rows.iter().map(|(_, row)| row), area.width.saturating_sub(BORDERS).into());
    let shown = |row: [String; COLUMNS]| {
        let cells = row.into_iter().zip(&columns).filter_map(|(cell, width)| width.map(|_| cell));
        Row::new(cells.collect::<Vec<_>>())
    };
    let header = shown(show::HEADERS.map(str::to_owned)).bold();
    let rows = rows.into_iter().map(|(node, row)| match shown(row) {
        row if is_stuck(node) => row.style(paint.alarm()),
        row if is_on_its_way(node) => row.style(paint.in_color(Color::Cyan)),
        row => row,
    });
    let widths: Vec<_> = columns.iter().flatten().map(|width| Constraint::Length(*width)).collect();
    let block = Block::bordered().title_bottom(title);
    frame.render_widget(Table::new(rows, widths).column_spacing(SPACING).header(header).block(block), area);
}

/// How wide each column is; `None` of one there is no room for.
fn columns<'a>(rows: impl Iterator<Item = &'a [String; COLUMNS]>, room: usize) -> [Option<u16>; COLUMNS] {
    let mut widths = show::HEADERS.map(|header| header.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut columns = widths.map(|width| u16::try_from(width).ok());
    for dropped in DROPPED_FIRST {
        let needed: usize = columns.iter().flatten().map(|width| usize::from(*width + SPACING)).sum();
        if needed <= room + usize::from(SPACING) {
            break;
        }
        for (column, header) in columns.iter_mut().zip(show::HEADERS) {
            *column = column.filter(|_| header != dropped);
        }
    }
    columns
}

/// Not where it should be; one that is on its way is away for a while.
fn is_stuck(node: &UpgradeNode) -> bool {
    node.part.as_ref().is_some_and(|part| part.blocked.is_some()) || !node.reachable && !is_on_its_way(node)
}

fn is_on_its_way(node: &UpgradeNode) -> bool {
    node.part.as_ref().is_some_and(|part| part.heading.is_some())
}

/// One sign for each step of the node's way.
fn bar(node: &UpgradeNode) -> String {
    let steps = node.part.iter().flat_map(|part| &part.steps);
    let sign = |state| match state {
        StepState::Done => '■',
        StepState::Pending => '▶',
        StepState::Ahead => '·',
    };
    let bar: String = steps.map(|step| sign(step.state)).collect();
    if bar.is_empty() { bar } else { bar + " " }
}

#[allow(clippy::cast_precision_loss, reason = "a picture")]
fn gauge(transaction: &TransactionStatus, is_paused: bool, paint: Paint) -> Gauge<'static> {
    let (done, all) = (transaction.steps_done, transaction.steps_done + transaction.steps_ahead);
    let ratio = if all == 0 { 1.0 } else { done as f64 / all as f64 };
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(show::progress(transaction).unwrap_or_default())
        .gauge_style(paint.in_color(if is_paused { Color::Yellow } else { Color::Green }))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::tests::upgrading, *};
    use crate::status::upgrade::PauseStatus;

    const PAINT: Paint = Paint { colors: true };

    #[test]
    fn nodes_steps_and_what_is_next_are_on_the_screen() {
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &upgrading(), Some("no answer"), PAINT)).unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "upgrade 1, redis-6.0 to redis-8.0: rolling",
            "n1 leads; 3 of 3 sidecars answer",
            "secondary",
            "old → new",
            "▶········ 0/9 gate-before",
            "next: n2: stop the store",
            "3 of 31 steps done",
            "no news: no answer",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // Too small a terminal shows less, and is no reason to end.
        let mut terminal = Terminal::new(TestBackend::new(5, 2)).unwrap();
        terminal.draw(|frame| draw(frame, &upgrading(), None, PAINT)).unwrap();
    }

    #[test]
    fn on_a_narrow_screen_all_of_a_pause_is_read_and_columns_are_whole() {
        let mut status = upgrading();
        let transaction = status.transaction.as_mut().unwrap();
        let why = "install of n2 failed: ".to_owned() + &"no space left on this device ".repeat(5);
        let (cause, advice) = ("failed".to_owned(), "mend it, and then go on".to_owned());
        transaction.paused = Some(PauseStatus { node: Some("n2".to_owned()), cause, why, advice });
        let mut terminal = Terminal::new(TestBackend::new(60, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &status, None, PAINT)).unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "│this device  ",
            "what to do: mend it, and then go on",
            "secondary  redis-6.0.16",
            "▶········ 0/9 gate-before",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("BEHIND"), "{text}");
    }

    #[test]
    fn of_many_nodes_those_are_shown_at_which_something_goes_on() {
        let mut status = upgrading();
        let quiet = status.nodes.iter().find(|node| node.id == "n1").unwrap().clone();
        let more = (10..60).map(|number| UpgradeNode { id: format!("a{number}"), ..quiet.clone() });
        status.nodes.splice(0..0, more);
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &status, None, PAINT)).unwrap();
        let text = terminal.backend().to_string();
        for part in ["n2 ", "more nodes: segue upgrade status", "next: n2: stop the store", "journal"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn without_colors_there_are_none() {
        let mut status = upgrading();
        let transaction = status.transaction.as_mut().unwrap();
        let (cause, why, advice) = ("failed".to_owned(), "no".to_owned(), "mend it".to_owned());
        transaction.paused = Some(PauseStatus { node: Some("n2".to_owned()), cause, why, advice });
        status.nodes.last_mut().unwrap().reachable = false;
        let colored = |colors: bool| {
            let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &status, Some("no answer"), Paint { colors })).unwrap();
            let cells = &terminal.backend().buffer().content;
            cells.iter().filter(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset)).count()
        };
        assert!(colored(true) > 0);
        assert_eq!(colored(false), 0);
    }
}
