//! `GET /page/events`: tells which metrics changed, so that the page draws them again.
