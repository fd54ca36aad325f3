//! One plain table, for pipes.

use super::columns::Column;
use super::sorting::{Sortable, Sorting};
use super::state::State;
use super::view::View;
use crate::human::number;
use crate::table::Table;

/// Every series in the order of names, and what all of them do together.
pub(super) fn table(state: &State) -> String {
    let view = View { series: Sorting::by(Column::Name), ..View::default() };
    let columns = Column::all();
    let mut table = Table::new(columns.iter().map(|column| (column.title(), column.is_number())));
    for series in view.series(&state.model) {
        table.row(columns.iter().map(|column| column.cell(series)));
    }
    let rates = state.rates();
    let law = if state.counts.law_holds() { "holds" } else { "is broken" };
    let mut text = table.to_string();
    if state.model.series().is_empty() {
        text = format!("{}\n", state.why_empty());
    }
    text += &format!(
        "counts {}/s  timers {}/s  gauges {}/s  lost {}  law {law}\n",
        number(rates.counts),
        number(rates.timers),
        number(rates.gauges),
        state.losses()
    );
    if state.model.left_out() > 0 {
        text += &format!("limit of {} series reached: some are not shown\n", super::model::SERIES_MAX);
    }
    text
}
