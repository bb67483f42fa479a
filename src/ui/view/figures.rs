//! The figures panel: sparklines, how the time is spent, and the load of the machine.

use super::sparks::Spark;
use crate::event::TimeSplit;
use crate::text::units::bytes;
use crate::ui::app::App;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Draws one figure per row, the most important first.
pub(super) fn draw(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let mut rows = area.rows();
    for (label, unit, series) in
        [("loss", "", &app.train), ("grad norm", "", &app.grad_norm), ("images/s", "", &app.rate)]
    {
        let Some(row) = rows.next() else { return };
        let spark = Spark { label, unit, series, theme: app.theme(), ascii: app.ascii };
        frame.render_widget(spark, row);
    }
    let mut lines = time_lines(app, area.width);
    lines.extend(host_lines(app));
    for (line, row) in lines.into_iter().zip(rows) {
        frame.render_widget(line, row);
    }
}

/// Returns a stacked bar of how the time is spent, and its legend.
fn time_lines(app: &App, width: u16) -> Vec<Line<'static>> {
    let theme = app.theme();
    let time = app.state.last_step.as_ref().map_or(TimeSplit::default(), |report| report.spent);
    let parts: [(&str, f64, char, Style); 4] = [
        ("wait", time.data_wait, 'w', theme.warning()),
        ("compute", time.compute, '=', theme.train()),
        ("validate", time.validation, 'v', theme.val()),
        ("save", time.saving, 's', theme.lr()),
    ];
    let total: f64 = parts.iter().map(|part| part.1).sum();
    if total <= 0.0 {
        return vec![Line::styled("time       no step yet", theme.dim())];
    }
    let label = "time       ";
    let room = f64::from(width).max(12.0) - label.len() as f64;
    let mut bar = vec![Span::styled(label, theme.dim())];
    let mut legend = vec![Span::raw(" ".repeat(label.len()))];
    let mut done = 0.0;
    let mut drawn = 0;
    for (name, seconds, letter, style) in parts {
        done += seconds;
        // Rounding the end of each part, not its length, makes the parts fill the bar exactly.
        let end = (done / total * room).round() as usize;
        let mark = if app.ascii { letter } else { '█' };
        bar.push(Span::styled(mark.to_string().repeat(end - drawn), style));
        drawn = end;
        let percent = seconds / total * 100.0;
        legend.push(Span::styled(format!("{name} {percent:.1}%  "), style));
    }
    vec![Line::from(bar), Line::from(legend)]
}

fn host_lines(app: &App) -> Vec<Line<'static>> {
    let (theme, host) = (app.theme(), &app.host);
    if host.memory_total == 0 {
        return Vec::new();
    }
    let memory = format!("{} of {}", bytes(host.memory_used), bytes(host.memory_total));
    let mut lines = vec![Line::from(vec![
        Span::styled("host       ", theme.dim()),
        Span::raw(format!("cpu {:3.0}%  memory {memory}", host.cpu * 100.0)),
    ])];
    if let Some(gpu) = &host.gpu {
        lines.push(Line::from(vec![
            Span::styled("gpu        ", theme.dim()),
            Span::raw(format!(
                "{:.0} W  {:.0}%  {} of {}  {} C  {}",
                gpu.power,
                gpu.utilization * 100.0,
                bytes(gpu.memory_used),
                bytes(gpu.memory_total),
                gpu.temperature,
                gpu.name
            )),
        ]));
    }
    lines
}
