//! Numbers in flags: whoever gives another one is told which are accepted.

/// A clap value parser for a whole number from `min` to `max`, both included.
///
/// clap's own parser tells the range only to those who gave a number, not to those who gave text.
pub fn whole_number<T>(
    min: impl Into<i128>,
    max: impl Into<i128>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<i128>,
{
    let (min, max) = (min.into(), max.into());
    move |text: &str| {
        let number = text.parse::<i128>().ok().filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("accepted are whole numbers from {min} to {max}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_out_of_range_are_told_what_is_accepted() {
        let parse = whole_number::<u16>(1, 65_535);
        assert_eq!((parse("1"), parse("65535")), (Ok(1), Ok(65_535)));
        for bad in ["", "0", "65536", "-1", "often", "1.5", "99999999999999999999999999999999999999999"] {
            assert_eq!(parse(bad), Err("accepted are whole numbers from 1 to 65535".to_owned()), "{bad}");
        }
    }
}
