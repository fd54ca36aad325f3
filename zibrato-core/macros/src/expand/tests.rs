use super::*;

fn expanded(attribute: Attribute, arguments: &str, item: &str) -> Result<String> {
    let tokens = try_expand(attribute, arguments.parse().unwrap(), item.parse().unwrap())?;
    syn::parse2::<syn::File>(tokens.clone()).unwrap();
    Ok(tokens.to_string())
}

fn refused(attribute: Attribute, arguments: &str) -> String {
    expanded(attribute, arguments, "fn f() {}").unwrap_err().to_string()
}

fn refused_on(item: &str) -> String {
    expanded(Attribute::TimeMe, "level = \"info\"", item).unwrap_err().to_string()
}

/// As the compiler prints tokens, which is how [`expanded`] does.
fn tokens(text: &str) -> String {
    text.parse::<TokenStream>().unwrap().to_string()
}

#[test]
fn a_counter_gets_what_the_arguments_say() {
    let arguments = r#"level = "info", name = "handled", value = 5, source = "s", unit = "B",
        tags(route = "/x", "http.method" = "GET", r#type = "t"), crate = my::metrics"#;
    let expected = r#"fn f() {
        static __ZIBRATO_COUNTER: my::metrics::Counter =
            my::metrics::Counter::new("handled", my::metrics::Level::named("info"))
                .source("s")
                .unit("B")
                .tags(&[("route", "/x"), ("http.method", "GET"), ("type", "t")]);
        __ZIBRATO_COUNTER.add(5);
        { 1 + 1; }
    }"#;
    assert_eq!(expanded(Attribute::CountMe, arguments, "fn f() { 1 + 1; }").unwrap(), tokens(expected));
}

#[test]
fn a_timer_has_defaults_for_all_but_the_level() {
    let expected = r#"fn r#match() {
        static __ZIBRATO_TIMER: zibrato_core::metric::Timer = zibrato_core::metric::Timer::new(
            ::core::concat!(::core::module_path!(), "::", "match"),
            A::LEVEL
        );
        let __zibrato_guard = __ZIBRATO_TIMER.start();
        {}
    }"#;
    let arguments = "level = A::LEVEL, crate = zibrato_core";
    assert_eq!(expanded(Attribute::TimeMe, arguments, "fn r#match() {}").unwrap(), tokens(expected));
}

#[test]
fn a_sampled_timer_is_made_from_a_timer() {
    let expected = r#"fn f() {
        static __ZIBRATO_TIMER: my::SampledTimer =
            my::Timer::new("step", my::Level::named("info")).unit("s").sampled(64);
        let __zibrato_guard = __ZIBRATO_TIMER.start();
        {}
    }"#;
    let arguments = r#"level = "info", sampled = 64, name = "step", unit = "s", crate = my"#;
    assert_eq!(expanded(Attribute::TimeMe, arguments, "fn f() {}").unwrap(), tokens(expected));
    for n in ["2", "65_536", "0x40", "A::N"] {
        let arguments = format!("level = \"info\", sampled = {n}");
        assert!(expanded(Attribute::TimeMe, &arguments, "fn f() {}").is_ok(), "{n}");
    }
    for n in ["0", "1", "3", "131072", "-2", "\"64\"", "f()", "64.0"] {
        let error = refused(Attribute::TimeMe, &format!("sampled = {n}"));
        let text = "`sampled` takes a power of two from 2 to 65536, or the path of a constant of type u32 that is one";
        assert_eq!(error, text, "{n}");
    }
    assert!(
        refused(Attribute::CountMe, "sampled = 64").starts_with("`sampled` is not an argument of count_me")
    );
}

#[test]
fn both_forms_of_tags_mean_the_same() {
    let of = |tags: &str| {
        let arguments = format!("level = \"info\", {tags},");
        expanded(Attribute::TimeMe, &arguments, "fn f() {}").unwrap()
    };
    let expected = of(r#"tags(route = "/x", host = HOST)"#);
    assert!(expected.contains("tags"));
    assert_eq!(of(r#"tags = [("route", "/x"), ("host", HOST)]"#), expected);
    assert_eq!(of(r#"tags = &[("route", "/x"), ("host", HOST),]"#), expected);
}

#[test]
fn everything_around_the_body_stays() {
    let item = r#"/// Documented.
        #[inline]
        #[must_use = "why"]
        pub(crate) async unsafe extern "C" fn f<'a, T: Clone, const N: usize>(&'a self, mut x: [T; N]) -> impl Fn() + use<T, N>
        where
            T: Send,
        {
            #![allow(unused)]
            body
        }"#;
    let all = expanded(Attribute::CountMe, "level = \"info\"", item).unwrap();
    // Through the same parser, so that both are spaced alike.
    let item = syn::parse_str::<syn::ItemFn>(item).unwrap().to_token_stream().to_string();
    let head = item.strip_suffix("body }").unwrap();
    assert!(all.starts_with(head), "{all}\n{head}");
    assert!(all.ends_with("; { body } }"), "{all}");
}

#[test]
fn a_boxed_future_is_instrumented_inside() {
    let of = |item: &str| expanded(Attribute::TimeMe, "level = \"info\"", item).unwrap();
    for call in ["Box::pin", "::std::boxed::Box::pin"] {
        let item = format!("fn f() -> F {{ let a = 1; {call}(async move {{ a }}) }}");
        let all = of(&item);
        let head = tokens(&format!("fn f() -> F {{ let a = 1; {call} }}"));
        let head = head.strip_suffix('}').unwrap();
        let inside = all.strip_prefix(head).unwrap();
        assert!(inside.starts_with("(async move { static __ZIBRATO_TIMER"), "{all}");
        assert!(inside.ends_with("; { a } }) }"), "{all}");
    }
    for not_boxed in ["fn f() -> F { pin(async move {}) }", "async fn f() -> F { Box::pin(async {}) }"] {
        assert!(of(not_boxed).contains("-> F { static __ZIBRATO_TIMER"), "{not_boxed}");
    }
}

#[test]
fn an_argument_that_is_missing_unknown_or_repeated_is_named() {
    use Attribute::{CountMe, TimeMe};
    let missing = r#"`level` is missing: say at which level to record, as in count_me(level = "info")"#;
    assert_eq!(refused(CountMe, ""), missing);
    assert_eq!(refused(CountMe, "name = \"n\""), missing);
    assert_eq!(
        refused(CountMe, "lvl = 1"),
        "`lvl` is not an argument of count_me: accepted are level, name, value, source, unit, tags, crate"
    );
    assert_eq!(
        refused(TimeMe, "level = \"info\", value = 1"),
        "`value` is not an argument of time_me: accepted are level, name, source, unit, tags, sampled, crate"
    );
    assert_eq!(refused(TimeMe, "level = \"a\", level = \"b\""), "`level` is given twice: keep one of them");
    assert_eq!(
        refused(TimeMe, "tags(a = \"1\"), tags(b = \"2\")"),
        "`tags` is given twice: keep one of them"
    );
    assert_eq!(refused(TimeMe, "level"), "`level` has no value: write level = …");
    assert_eq!(refused(TimeMe, "name(\"x\")"), "`name` has no value: write name = …");
    assert!(refused(TimeMe, "\"info\"").starts_with("expected an argument of time_me: accepted are level, "));
    assert!(refused(TimeMe, "level = \"a\" name = \"b\"").starts_with("expected `,` between the arguments"));
    for empty in ["level =", "level = , name = \"n\""] {
        assert_eq!(refused(TimeMe, empty), "`level` has no value: write level = …", "{empty}");
    }
}

#[test]
fn a_text_outside_its_class_is_refused() {
    let long = format!("level = \"info\", name = {:?}", "x".repeat(256));
    assert_eq!(
        refused(Attribute::CountMe, &long),
        "name of 256 bytes is too long: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -"
    );
    for (arguments, text) in [
        ("level = \"a|b\"", "level \"a|b\" is not accepted: accepted are 1 to 32 bytes without"),
        ("level = \"\"", "level \"\" is not accepted"),
        ("name = \"a b\"", "name \"a b\" is not accepted: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -"),
        ("source = \"a\\nb\"", "source \"a\\nb\" is not accepted"),
        ("unit = \"\\t\"", "unit \"\\t\" is not accepted"),
        ("tags(\"a b\" = \"v\")", "tag key \"a b\" is not accepted"),
        ("tags(a = \"\")", "tag value \"\" is not accepted"),
        ("tags = [(\"a b\", \"v\")]", "tag key \"a b\" is not accepted"),
    ] {
        let error = refused(Attribute::CountMe, arguments);
        assert!(error.starts_with(text), "{arguments}: {error}");
    }
}

#[test]
fn an_argument_of_the_wrong_sort_says_what_it_takes() {
    for (arguments, text) in [
        ("level = 5", "`level` takes a string literal such as \"info\" or the path of a constant"),
        ("level = Level::new(\"a\")", "`level` takes a string literal"),
        ("name = 5", "`name` takes a string literal, the path of a constant or a macro such as concat!"),
        ("name = b\"n\"", "`name` takes"),
        ("source = f()", "`source` takes"),
        ("value = -1", "`value` takes a non-negative whole number or an expression of type u64"),
        ("value = 1.5", "`value` takes"),
        ("value = \"5\"", "`value` takes"),
        ("crate = \"zibrato_std\"", "`crate` takes the path of a crate or module"),
        ("tags", "`tags` takes tags(key = \"value\") or tags = [(\"key\", \"value\")]"),
        ("tags = TAGS", "`tags` takes"),
        ("tags = [\"a\"]", "`tags` takes"),
        ("tags = [(\"a\", \"b\", \"c\")]", "`tags` takes"),
        ("tags(a)", "tag \"a\" has no value: write it as key = \"value\""),
        ("tags(a =, b = \"v\")", "tag \"a\" has no value"),
        ("tags =", "`tags` has no value: write tags = …"),
        ("tags(5 = \"a\")", "expected a tag as key = \"value\""),
        ("tags(a = 5)", "`tag value` takes"),
    ] {
        let error = refused(Attribute::CountMe, arguments);
        assert!(error.starts_with(text), "{arguments}: {error}");
    }
}

#[test]
fn eight_tags_are_accepted_and_nine_or_a_repeated_one_are_not() {
    let of = |count: u32| {
        let tags: String = (0..count).map(|at| format!("t{at} = \"v\",")).collect();
        expanded(Attribute::TimeMe, &format!("level = \"info\", tags({tags})"), "fn f() {}")
    };
    assert!(of(8).is_ok());
    assert_eq!(of(9).unwrap_err().to_string(), "9 tags are too many: accepted are at most 8");
    assert_eq!(
        refused(Attribute::TimeMe, "tags(a = \"1\", \"a\" = \"2\")"),
        "tag \"a\" is given twice: keep one of them"
    );
}

#[test]
fn only_a_function_that_runs_can_be_instrumented() {
    assert_eq!(
        refused_on("pub const fn f() {}"),
        "time_me cannot record in a const fn, which may run in the compiler: remove one of them"
    );
    assert_eq!(
        refused_on("fn f(&self);"),
        "time_me takes a function with a body: set it where `f` is implemented"
    );
    for item in
        ["struct S;", "impl S { fn f() {} }", "extern \"C\" { fn f(); }", "mod m {}", "static S: u8 = 1;"]
    {
        assert_eq!(
            refused_on(item),
            "time_me takes a function with a body: set it on each function",
            "{item}"
        );
    }
    let error = expanded(Attribute::CountMe, "level = \"info\"", "fn größe() {}").unwrap_err().to_string();
    assert!(
        error.starts_with("the function's name cannot name the metric, give one with `name = \"…\"`"),
        "{error}"
    );
    assert!(expanded(Attribute::CountMe, "level = \"info\", name = \"size\"", "fn größe() {}").is_ok());
}

#[test]
fn a_counter_and_a_timer_of_one_function_may_not_be_one_series() {
    let of = |count: &str, time: &str| {
        expanded(Attribute::CountMe, count, &format!("#[zibrato_std::time_me({time})] fn f() {{}}"))
    };
    let clash =
        "count_me and time_me would make two kinds of metric with one name: give one of them another `name`";
    for (count, time) in [
        ("level = \"info\"", "level = \"info\", unit = \"s\""),
        ("level = L, name = \"n\", value = 2", "name = \"n\", level = L"),
        ("level = L, tags(a = \"1\", b = \"2\")", "level = L, tags = [(\"b\", \"2\"), (\"a\", \"1\")]"),
    ] {
        assert_eq!(of(count, time).unwrap_err().to_string(), clash, "{count}");
    }
    for (count, time) in [
        ("level = \"info\"", "level = \"debug\""),
        ("level = L", "level = L, name = \"n\""),
        ("level = L, source = \"s\"", "level = L"),
        ("level = L, tags(a = \"1\")", "level = L, tags(a = \"2\")"),
        ("level = L", ""),
    ] {
        assert!(of(count, time).is_ok(), "{count}");
    }
    let error =
        expanded(Attribute::TimeMe, "level = L", "#[count_me(level = L)] fn f() {}").unwrap_err().to_string();
    assert!(error.starts_with("time_me and count_me would make"), "{error}");
}

#[test]
fn a_refused_attribute_leaves_the_function_in_place() {
    let all = expand(
        Attribute::CountMe,
        TokenStream::new(),
        quote!(
            fn f() {}
        ),
    )
    .to_string();
    assert!(all.contains("compile_error") && all.ends_with(&tokens("fn f() {}")), "{all}");
}
