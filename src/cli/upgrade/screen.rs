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
use crate::status::upgrade::{StepState, TransactionStatus, UpgradeNode, UpgradeStatus};

/// How often keys are looked for.
const KEYS_INTERVAL: Duration = Duration::from_millis(100);

/// The terminal, until it is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub fn open() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// `trouble`: why the status is not new.
    pub fn draw(&mut self, status: &UpgradeStatus, trouble: Option<&str>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, status, trouble)).map(drop)
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

fn draw(frame: &mut Frame<'_>, status: &UpgradeStatus, trouble: Option<&str>) {
    let notes = status.transaction.as_ref().map(|transaction| show::notes(transaction, status.at_ms));
    let notes = notes.unwrap_or_default();
    let rows = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2);
    let [head, nodes, progress, now, journal, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows(status.nodes.len() + 1)),
        Constraint::Length(1),
        Constraint::Length(rows(notes.len().max(1))),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let head_lines = vec![Line::from(show::headline(status)).bold(), Line::from(show::mesh(status)).dim()];
    frame.render_widget(Paragraph::new(head_lines), head);
    draw_nodes(frame, &status.nodes, nodes);
    if let Some(transaction) = &status.transaction {
        frame.render_widget(gauge(transaction), progress);
    }
    let is_paused = status.transaction.as_ref().is_some_and(|transaction| transaction.paused.is_some());
    let style = if is_paused { Style::new().fg(Color::Yellow) } else { Style::new() };
    let lines: Vec<_> = notes.into_iter().map(Line::from).collect();
    let notes =
        Paragraph::new(lines).wrap(Wrap { trim: false }).style(style).block(Block::bordered().title("now"));
    frame.render_widget(notes, now);
    let lines: Vec<_> = status.journal.iter().map(|line| Line::from(show::journal(line))).collect();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title("journal, newest first")),
        journal,
    );
    let foot_line = match trouble {
        Some(trouble) => Line::from(plain(trouble)).fg(Color::Red),
        None => Line::from("q: leave; the upgrade goes on").dim(),
    };
    frame.render_widget(foot_line, foot);
}

fn draw_nodes(frame: &mut Frame<'_>, nodes: &[UpgradeNode], area: Rect) {
    let headers = ["NODE", "ROLE", "RELEASE", "GENERATION", "IN SYNC", "BEHIND", "STEPS"];
    let rows = nodes.iter().map(|node| {
        let [id, role, release, generation, in_sync, behind, step] = show::node(node);
        let row = Row::new([id, role, release, generation, in_sync, behind, bar(node) + &step]);
        if node.part.as_ref().is_some_and(|part| part.blocked.is_some()) || !node.reachable {
            row.fg(Color::Red)
        } else if node.part.as_ref().is_some_and(|part| part.heading.is_some()) {
            row.fg(Color::Cyan)
        } else {
            row
        }
    });
    let widths = [8, 15, 14, 14, 7, 12].map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Min(20)]);
    let table = Table::new(rows, widths).header(Row::new(headers).bold()).block(Block::bordered());
    frame.render_widget(table, area);
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
fn gauge(transaction: &TransactionStatus) -> Gauge<'static> {
    let (done, all) = (transaction.steps_done, transaction.steps_done + transaction.steps_ahead);
    let ratio = if all == 0 { 1.0 } else { done as f64 / all as f64 };
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(format!("{done} of {all} steps"))
        .gauge_style(Color::Green)
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::tests::upgrading, *};

    #[test]
    fn nodes_steps_and_what_is_next_are_on_the_screen() {
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &upgrading(), Some("no answer"))).unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "upgrade 1, redis-6.0 to redis-8.0: rolling",
            "n1 leads; 3 of 3 sidecars answer",
            "secondary",
            "old → new",
            "▶········ 0/9 gate-before",
            "next: stop of n2",
            "no answer",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // Too small a terminal shows less, and is no reason to end.
        let mut terminal = Terminal::new(TestBackend::new(5, 2)).unwrap();
        terminal.draw(|frame| draw(frame, &upgrading(), None)).unwrap();
    }
}
