//! The promises of the whole room, over documents made here.

use super::*;
use crate::account::{OwnField, ValueKind};
use crate::ocr::{Line, PageText, Word};

/// A page of lines, a column a tab; words as wide as their letters.
fn page(text: &str) -> PageText {
    let mut lines = Vec::new();
    for (row, columns) in text.lines().enumerate() {
        let top = 20.0 + row as f32 * 30.0;
        for (column, cell) in columns.split('\t').enumerate().filter(|(_, cell)| !cell.trim().is_empty()) {
            let mut left = 40.0 + column as f32 * 300.0;
            let mut words = Vec::new();
            for word in cell.split_whitespace() {
                let right = left + word.chars().count() as f32 * 10.0;
                let quad = Quad([[left, top], [right, top], [right, top + 20.0], [left, top + 20.0]]);
                words.push(Word { text: word.to_owned(), confidence: Confidence::new(0.9), quad });
                left = right + 8.0;
            }
            let (first, last) = (words[0].quad.0, words[words.len() - 1].quad.0);
            let quad = Quad([first[0], last[1], last[2], first[3]]);
            let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
            lines.push(Line { text, confidence: Confidence::new(0.9), quad, words, block: 0 });
        }
    }
    PageText { lines, width: 1000, height: 3000, ..PageText::default() }
}

fn extract_with(plan: &Plan, pages: &[PageText]) -> Extract {
    let pages: Vec<(u32, &PageText)> = (1..).zip(pages).collect();
    let Finding::Fields(extract) = Extractor::new(plan).look(&Seen { pages: &pages, codes: &[] }) else {
        panic!("an extractor finds fields")
    };
    extract
}

fn extract(text: &str) -> Extract {
    extract_with(&Plan::default(), &[page(text)])
}

fn value<'e>(extract: &'e Extract, name: &str) -> Option<&'e str> {
    extract.fields.get(name).map(|field| field.value.as_str())
}

const RECEIPT: &str = "CORNER BAKERY SDN BHD\n(933109-X)\nLOT 18, JALAN MILL 6,\n43300 SERI KEMBANGAN, SELANGOR\nTEL : 03-386 7524\nTAX INVOICE\nInvoice No: CB-1071\t12/02/2018 21:13\nRye bread 2 X 4.20 8.40\nButter roll 1.15\nSUBTOTAL 9.55\nGST 6% 0.57\nTOTAL RM 10.12\nROUNDING ADJ -0.02\nTOTAL ROUNDED RM 10.10\nCASH RM 20.00\nCHANGE RM 9.90\nGST SUMMARY\tAMOUNT\tTAX\nTOTAL 9.55 0.57";
const INVOICE: &str = "Müller & Söhne GmbH\nHauptstraße 35, 80331 München\nRECHNUNG R02318\nRechnungsdatum\t17.12.2023\nFällig am\t16.01.2024\nRechnung an:\nJürgen Köhler\nHauptstraße 31\n80331 München\nBeschreibung\tMenge\tEinzelpreis\tBetrag\nKupferrohr 15 mm\t1\t169,28\t169,28\nBeratung\t11\t170,93\t1.880,23\nZwischensumme\t\t\t2.049,51 EUR\nMwSt. 19%\t\t\t389,41 EUR\nEndbetrag\t\t\t2.438,92 €\nIBAN: DE89 3704 0044 0532 0130 00\nUSt-IdNr.: DE812706034";

#[test]
fn a_receipt() {
    let found = extract(RECEIPT);
    for (name, expected) in [
        ("company", "CORNER BAKERY SDN BHD"),
        ("address", "LOT 18, JALAN MILL 6, 43300 SERI KEMBANGAN, SELANGOR"),
        ("date", "2018-02-12"),
        ("total", "10.10"),
        ("subtotal", "9.55"),
        ("tax", "0.57"),
        ("tax_rate", "6"),
        ("currency", "MYR"),
        ("invoice_number", "CB-1071"),
        ("phone", "033867524"),
        ("payment_method", "cash"),
    ] {
        assert_eq!(value(&found, name), Some(expected), "{name}: {:#?}", found.fields);
    }
    let total = &found.fields["total"];
    assert_eq!((total.raw.as_str(), total.page), ("10.10", 1));
    assert!(total.quad.is_some_and(|quad| quad.0[0][1] > 400.0));
    let items: Vec<_> =
        found.items.iter().map(|item| (item.description.as_str(), item.quantity, item.unit_price, item.amount)).collect();
    assert_eq!(items, [("Rye bread", Some(2.0), Some(4.2), Some(8.4)), ("Butter roll", None, None, Some(1.15))]);
}

#[test]
fn an_invoice() {
    let found = extract(INVOICE);
    for (name, expected) in [
        ("company", "Müller & Söhne GmbH"),
        ("date", "2023-12-17"),
        ("due_date", "2024-01-16"),
        ("total", "2438.92"),
        ("subtotal", "2049.51"),
        ("tax", "389.41"),
        ("tax_rate", "19"),
        ("currency", "EUR"),
        ("invoice_number", "R02318"),
        ("iban", "DE89370400440532013000"),
        ("vat_id", "DE812706034"),
    ] {
        assert_eq!(value(&found, name), Some(expected), "{name}: {:#?}", found.fields);
    }
    assert_eq!(found.items.len(), 2, "{:#?}", found.items);
    assert_eq!(
        (found.items[1].quantity, found.items[1].unit_price, found.items[1].amount),
        (Some(11.0), Some(170.93), Some(1880.23))
    );
}

#[test]
fn a_form() {
    let found = extract("State: Illinois\tCity/ Town: Dundee\nType of Event:\tBeauty Contest\nFacility:\nThe Mill\nTime 10:30");
    let pairs: Vec<_> = found.pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
    let expected =
        [("State:", "Illinois"), ("City/ Town:", "Dundee"), ("Type of Event:", "Beauty Contest"), ("Facility:", "The Mill")];
    assert_eq!(pairs, expected);
    assert_eq!(value(&found, "total"), None);
    assert_eq!(value(&found, "company"), None, "the first line of a form is no company");
}

#[test]
fn an_account_s_own_fields() {
    let own = |name: &str, pattern: Option<&str>, keywords: &[&str], kind| OwnField {
        name: name.into(),
        pattern: pattern.map(str::to_owned),
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        kind,
    };
    let plan = Plan {
        own: vec![
            own("room", Some(r"Room (\d+)"), &[], ValueKind::Text),
            own("customer_number", None, &["Kundennummer", "Größe"], ValueKind::Number),
            own("deposit", None, &["Deposit"], ValueKind::Amount),
            own("visit", None, &["Visit on"], ValueKind::Date),
            own("missing", None, &["Nowhere"], ValueKind::Text),
        ],
        ..Plan::default()
    };
    let found = extract_with(
        &plan,
        &[page("Stay in Room 402, two nights\nKUNDENNUMMER:\tK-77\nDeposit 1.250,00\nVisit on\n3. März 2024")],
    );
    let said = ["room", "customer_number", "deposit", "visit", "missing"].map(|name| value(&found, name));
    assert_eq!(said, [Some("402"), Some("K-77"), Some("1250.00"), Some("2024-03-03"), None]);
}

/// Every value's raw text is a piece of a line; every number of an item stands in its own.
fn assert_nothing_invented(pages: &[PageText], extract: &Extract) {
    let stands = |page: u32, raw: &str| {
        let lines = &pages[page as usize - 1].lines;
        raw.split('\n').all(|piece| lines.iter().any(|line| line.text.contains(piece)))
    };
    for (name, field) in &extract.fields {
        assert!(!field.raw.is_empty() && stands(field.page, &field.raw), "{name}: {field:?}");
    }
    for item in &extract.items {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        for number in [item.quantity, item.unit_price, item.amount].into_iter().flatten() {
            let wanted = digits(&format!("{:.2}", number.abs()));
            let wanted = wanted.trim_matches('0');
            assert!(digits(&item.raw).contains(wanted), "{number} in {item:?}");
        }
    }
    for pair in &extract.pairs {
        let text: String = pages[pair.page as usize - 1].lines.iter().map(|line| format!("{} ", line.text)).collect();
        assert!(pair.key.split(' ').chain(pair.value.split(' ')).all(|word| text.contains(word)), "{pair:?}");
    }
}

/// A generator of numbers that is the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn nothing_is_invented_whatever_stands_on_the_page() {
    let pieces: Vec<&str> = RECEIPT.split([' ', '\n', '\t']).chain(INVOICE.split([' ', '\n', '\t'])).collect();
    let odd = [
        "\u{200b}", "ﬁn", "İ", "ß", "１２.３４", "٣٫٥", "🧾", "e\u{301}", "12.34.56", "€", "$-", "999999999999.99", "::",
        "Total:",
    ];
    let mut numbers = Numbers(0x9e37_79b9);
    for round in 0..100 {
        let mut text = String::new();
        for _ in 0..numbers.below(60) + 1 {
            let piece = if numbers.below(6) == 0 { odd[numbers.below(odd.len())] } else { pieces[numbers.below(pieces.len())] };
            text.push_str(piece);
            text.push_str([" ", " ", " ", "\t", "\n"][numbers.below(5)]);
        }
        let pages = [page(&text), page(RECEIPT)];
        let found = extract_with(&Plan::default(), &pages[..1 + round % 2]);
        assert_nothing_invented(&pages, &found);
    }
    for text in [RECEIPT, INVOICE] {
        let pages = [page(text)];
        assert_nothing_invented(&pages, &extract_with(&Plan::default(), &pages));
    }
}

#[test]
fn hostile_text_is_bounded_work() {
    let digits = "9".repeat(10_000);
    let mut lines: Vec<String> =
        [&digits as &str, &format!("TOTAL {digits}.99"), &"1/".repeat(5_000), &"1,".repeat(5_000), &"DE89 ".repeat(2_000)]
            .iter()
            .map(|line| (*line).to_owned())
            .collect();
    lines.push("Total: ".repeat(2_000));
    lines.push("a: ".repeat(3_000));
    lines.push("\u{130}\u{1e9e}🧾".repeat(2_000));
    let hostile = page(&lines.join("\n"));
    let found = extract_with(&Plan::default(), std::slice::from_ref(&hostile));
    assert_nothing_invented(std::slice::from_ref(&hostile), &found);
    // Two thousand pages: all of them are looked at, and no more than that.
    let pages: Vec<PageText> = (0..2_000).map(|_| page("Rye bread 2 X 4.20 8.40\nName: Ada\nTOTAL 9.55")).collect();
    let found = extract_with(&Plan::default(), &pages);
    assert!(found.items.len() <= 2_000 && found.pairs.len() <= 2_000);
    assert_eq!(value(&found, "total"), Some("9.55"));
    // Quads that are no numbers.
    let mut broken = page(RECEIPT);
    for line in &mut broken.lines {
        line.quad = Quad([[f32::NAN; 2]; 4]);
        line.words.clear();
    }
    let _ = extract_with(&Plan::default(), &[broken]);
}
