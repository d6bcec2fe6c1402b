//! Paints the screen. All text has been made harmless by `screen` or is made so here.

use operator_api::observability::v1 as wire;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row as TableRow, Table};

use super::super::json;
use super::super::text::{count, duration, printable, sentence, share, size};
use super::screen::{Pane, Row, Screen};

/// Mounts in the header at most; `headrace node` shows all.
const MOUNTS: usize = 3;

/// Below this height only the pane in front is shown.
const LOW: u16 = 18;

pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let header = header(screen);
    let height = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    if frame.area().height < LOW {
        pane(screen, screen.pane, middle, frame);
    } else {
        let weight = |pane| Constraint::Fill(if screen.pane == pane { 3 } else { 2 });
        let panes = [Pane::Workloads, Pane::Files, Pane::Ledger];
        let areas: [Rect; 3] = Layout::vertical(panes.map(weight)).areas(middle);
        for (which, area) in panes.into_iter().zip(areas) {
            pane(screen, which, area, frame);
        }
    }
    frame.render_widget(footer(screen), bottom);
    if screen.help {
        help(frame);
    }
}

fn header(screen: &Screen) -> Vec<Line<'static>> {
    let Some(sample) = &screen.now else {
        let why = screen.trouble.clone().unwrap_or_else(|| "asking the agent …".to_owned());
        return vec![Line::from(why)];
    };
    let node = &sample.node;
    let fate = node.fate.unwrap_or_default();
    let plan = node.plan.as_ref().map(|plan| plan.plan.as_str()).unwrap_or_default();
    let plan: Span<'_> = match plan {
        "" => "nothing attached".red(),
        plan => sentence(plan).green(),
    };
    let mode = if node.observe_only { "  observing only" } else { "" };
    let (bytes, reads) = screen.node_rates();
    let lost = node.drops_per_cpu.iter().sum::<u64>().max(node.lost_records);
    let drops = format!("drops {}", count(lost));
    let drops = if lost > 0 { drops.red().bold() } else { Span::raw(drops) };
    let mut lines = vec![
        Line::from(vec![
            format!("headrace {}", sentence(&node.hostname)).bold(),
            "  plan ".into(),
            plan,
            format!("{mode}  up {}  ", uptime(node.uptime_seconds)).into(),
            drops,
        ]),
        Line::from(format!(
            "read {}/s ({}/s)  covered {}  files {}  workloads {}",
            size(bytes as u64),
            count(reads as u64),
            share(node.covered_bytes, node.read_bytes),
            count(node.files),
            count(node.workloads)
        )),
        Line::from(format!(
            "fetched {}: {} hit, {} late, {} wasted; {} under way, {} waiting",
            size(node.fetched_bytes),
            size(fate.hit_bytes),
            size(fate.late_bytes),
            size(fate.wasted_bytes),
            count(node.in_flight),
            count(node.queued)
        )),
        Line::from(format!(
            "memory {} of {} free  pressure {:.1} %",
            size(node.memory_available_bytes),
            size(node.memory_total_bytes),
            f64::from(node.memory_pressure) / 100.0
        )),
    ];
    lines.extend(node.mounts.iter().take(MOUNTS).map(mount));
    match node.mounts.len() {
        0 => lines.push(Line::from("no mount is watched: see headrace doctor".yellow())),
        n if n > MOUNTS => lines.push(Line::from(format!("and {} more mounts: headrace node", n - MOUNTS))),
        _ => {}
    }
    lines
}

fn mount(mount: &wire::Mount) -> Line<'static> {
    let place = if mount.point.is_empty() { mount.source.as_bytes() } else { &mount.point };
    let survival = json::survival(mount.survival);
    let told = format!("warmed pages {survival}");
    let told = match survival {
        "kept" => told.green(),
        "dropped" | "refused" => told.yellow(),
        _ => Span::raw(told),
    };
    let miss = match mount.miss_latency_ns {
        0 => String::new(),
        ns => format!("  miss {}", duration(ns)),
    };
    // Facts first: a place may be long, and what does not fit is cut.
    Line::from(vec![
        told,
        format!("  depth {}{miss}  ", mount.depth).into(),
        format!("{} ({})", printable(place), printable(mount.fstype.as_bytes())).bold(),
    ])
}

fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{}.{} h", seconds / 3600, seconds % 3600 / 360),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn pane(screen: &Screen, which: Pane, area: Rect, frame: &mut Frame<'_>) {
    let in_front = screen.pane == which;
    let title = match which {
        Pane::Workloads => " Workloads ",
        Pane::Files => " Files ",
        Pane::Ledger => " Ledger ",
    };
    let style = if in_front { Style::new().fg(Color::Cyan) } else { Style::new().fg(Color::DarkGray) };
    let block = Block::new().borders(Borders::TOP).border_style(style).title(Span::styled(
        title,
        if in_front { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() },
    ));
    let skip = if in_front { screen.scroll } else { 0 };
    let table = match which {
        Pane::Workloads => workloads(screen.workloads().into_iter().skip(skip)),
        Pane::Files => {
            // The name is the last and flexible column: its end is what tells files apart.
            let room = usize::from(area.width.saturating_sub(FILE_COLUMNS));
            files(screen.files().into_iter().skip(skip), room)
        }
        Pane::Ledger => ledger(screen.ledger().into_iter().skip(skip)),
    };
    frame.render_widget(table.block(block), area);
}

fn head(names: &[&'static str]) -> TableRow<'static> {
    TableRow::new(names.iter().map(|name| Cell::from(*name))).style(Style::new().add_modifier(Modifier::BOLD))
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn workloads(rows: impl Iterator<Item = Row>) -> Table<'static> {
    let rows = rows.map(|row| {
        TableRow::new([
            Cell::from(row.name),
            right(format!("{}/s", size(row.rate as u64))),
            right(share(row.covered_bytes, row.read_bytes)),
            right(size(row.agent_bytes)),
            right(size(row.wasted_bytes)),
            Cell::from(row.pattern),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(18),
    ];
    Table::new(rows, widths).header(head(&[
        "WORKLOAD",
        "    READ/s",
        "COVERED",
        "PREFETCHED",
        "  WASTED",
        "PATTERN",
    ]))
}

/// Columns of a files row before its name: widths below and the gaps between.
const FILE_COLUMNS: u16 = 8 + 10 + 7 + 9 + 14 + 5;

fn files(rows: impl Iterator<Item = Row>, room: usize) -> Table<'static> {
    let rows = rows.map(|row| {
        TableRow::new([
            right(count(row.reads.round() as u64)),
            right(format!("{}/s", size(row.rate as u64))),
            right(share(row.covered_bytes, row.read_bytes)),
            right(size(row.agent_bytes)),
            Cell::from(row.pattern),
            Cell::from(end_of(row.name, room)),
        ])
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(14),
        Constraint::Fill(1),
    ];
    Table::new(rows, widths).header(head(&[
        " READS/s",
        "    READ/s",
        "COVERED",
        " BY AGENT",
        "PATTERN",
        "PATH",
    ]))
}

/// The last part of a name that fits, marked where it was cut.
fn end_of(name: String, room: usize) -> String {
    let width = |text: &str| Line::raw(text).width();
    if width(&name) <= room {
        return name;
    }
    let mut start = 0;
    for (at, _) in name.char_indices() {
        start = at;
        if name.get(at..).is_none_or(|rest| width(rest) < room) {
            break;
        }
    }
    format!("…{}", name.get(start..).unwrap_or_default())
}

fn ledger(rows: impl Iterator<Item = (i32, wire::LedgerRow)>) -> Table<'static> {
    let rows = rows.map(|(predictor, row)| {
        let fate = row.fate.unwrap_or_default();
        TableRow::new([
            Cell::from(json::predictor(predictor)),
            right(count(row.predictions)),
            right(size(row.fetched_bytes)),
            right(size(fate.hit_bytes)),
            right(size(fate.late_bytes)),
            right(size(fate.wasted_bytes)),
            right(size(fate.pending_bytes)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let names = ["PREDICTOR", "PREDICTIONS", "  FETCHED", "      HIT", "     LATE", "   WASTED", "  PENDING"];
    Table::new(rows, widths).header(head(&names))
}

fn footer(screen: &Screen) -> Line<'static> {
    if screen.typing {
        return Line::from(format!("filter: {}▏  Enter keeps, Esc clears", sentence(&screen.filter)));
    }
    let mut parts = vec!["q quit  tab pane  s sort  p pause  / filter  ? help".dark_gray()];
    parts.push(format!("  by {}", screen.sort.name()).into());
    if screen.paused {
        parts.push("  PAUSED".yellow().bold());
    }
    if !screen.filter.is_empty() {
        parts.push(format!("  filter {}", sentence(&screen.filter)).yellow());
    }
    if let (Some(why), true) = (&screen.trouble, screen.now.is_some()) {
        return Line::from(why.clone().red());
    }
    Line::from(parts)
}

fn help(frame: &mut Frame<'_>) {
    const TEXT: [&str; 13] = [
        "q, Ctrl-C     leave",
        "tab           next table: it gets most room",
        "up, down      scroll it (also j, k, page up, page down)",
        "s             sort by rate, total, least covered, name",
        "p             pause and go on",
        "/             show only names that contain a text",
        "esc           clear the filter, close this",
        "",
        "covered       share of read bytes that were in memory",
        "prefetched    bytes the agent fetched for this workload",
        "late          the reader came while the fetch was under way",
        "wasted        fetched, and gone unread",
        "pending       fetched, not read so far, still there",
    ];
    let area = frame.area();
    let width = area.width.min(64);
    let height = area.height.min(u16::try_from(TEXT.len()).unwrap_or(u16::MAX).saturating_add(2));
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let text: Vec<Line<'_>> = TEXT.into_iter().map(Line::from).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" Help ")), place);
}
