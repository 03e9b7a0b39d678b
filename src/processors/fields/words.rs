//! The words that documents label their values with: English, German, French, Spanish, Italian, Dutch,
//! Portuguese, without case and accents.

/// Whether one of `words` stands in `plain`, apart from other letters.
pub(super) fn has_any(plain: &str, words: &[&str]) -> bool {
    words.iter().any(|word| find(plain, word).is_some())
}

/// Where `word` stands in `plain`, no letter or digit at its ends that would make it another word.
pub(super) fn find(plain: &str, word: &str) -> Option<std::ops::Range<usize>> {
    let mut from = 0;
    while let Some(at) = plain[from..].find(word) {
        let (start, end) = (from + at, from + at + word.len());
        let apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphabetic());
        if apart(plain[..start].chars().next_back()) && apart(plain[end..].chars().next()) {
            return Some(start..end);
        }
        from = end.max(start + 1);
        if !plain.is_char_boundary(from) || from >= plain.len() {
            break;
        }
    }
    None
}

/// The amount that is to be paid, the surest labels.
pub(super) const GRAND_TOTAL: &[&str] = &[
    "grand total", "total due", "amount due", "balance due", "total payable", "amount payable", "total rounded", "rounded total",
    "total after rounding", "total amount due", "total to pay", "invoice total", "total (rounded)", "net total", "nett total",
    "total nett", "nett", "payable amount", "amount to pay", "total to be paid", "total amount payable", "round amount",
    "rounded amt", "total amt rounded", "total amount", "total amt", "total sales inclusive", "total sales (inclusive",
    "total (incl", "total incl", "total inclusive", "total (inclusive", "total inc", "total with gst", "amount charged",
    "total charged", "total bill", "zu zahlen", "zu zahlender betrag", "zahlbetrag", "gesamtbetrag", "gesamtsumme",
    "rechnungsbetrag", "endbetrag", "endsumme", "bruttobetrag", "gesamt brutto", "gesamt", "summe brutto", "rechnungssumme",
    "total brutto", "net a payer", "montant a payer", "total ttc", "montant ttc", "total a payer", "montant total",
    "solde a payer", "total t.t.c.", "total a pagar", "importe total", "total factura", "total importe", "total euros",
    "a pagar", "totale da pagare", "totale fattura", "totale documento", "totale dovuto", "totale complessivo", "importo totale",
    "totale euro", "te betalen", "totaalbedrag", "totaal te betalen", "eindtotaal", "totaal incl", "factuurbedrag",
    "totaal bedrag", "totaal inclusief", "valor total", "total geral", "valor a pagar", "total da fatura", "total liquido",
    "total com iva",
];

/// A label that is a total where there is no better one.
pub(super) const TOTAL: &[&str] = &[
    "total", "totals", "summe", "s u m m e", "betrag", "totale", "totaal", "jumlah", "sum", "amount", "importe", "importo",
    "montant", "bedrag", "tot", "t0tal", "tota1",
];

/// What makes a total of something else.
pub(super) const NOT_TOTAL: &[&str] = &[
    "qty", "quantity", "item", "items", "item(s)", "qty(s)", "pcs", "discount", "disc", "saving", "savings", "saved", "tender",
    "tendered", "change", "points", "point", "balance b/f", "deposit", "charged", "anzahl", "artikel", "rabatt", "ersparnis",
    "netto", "remise", "descuento", "sconto", "korting", "desconto", "payment", "paid", "bonus", "received", "litre",
];

pub(super) const SUBTOTAL: &[&str] = &[
    "subtotal", "sub total", "sub-total", "sub - total", "subttl", "zwischensumme", "zwischentotal", "nettobetrag",
    "summe netto", "gesamt netto", "netto", "nettosumme", "sous-total", "sous total", "total ht", "total h.t.", "montant ht",
    "total hors taxe", "base imponible", "total bruto", "imponibile", "totale imponibile", "subtotale", "subtotaal",
    "totaal excl", "totaal exclusief", "total excl", "total excluding", "total (excl", "total (excluding", "net amount",
    "total net", "amount excl", "excl", "excluding", "total before", "before tax", "total sales (excluding", "taxable",
    "total iliquido", "total sem iva", "valor liquido", "exclude", "exclusive",
];

pub(super) const TAX: &[&str] = &[
    "tax", "gst", "vat", "sst", "sales tax", "mwst", "mehrwertsteuer", "mehrwertst", "ust", "umsatzsteuer", "tva", "iva",
    "i.v.a.", "btw", "imposta", "impuesto", "imposto", "t.v.a.", "steuer", "mwst.", "ust.",
];

/// A table of taxes begins here: its totals are not the document's.
pub(super) const TAX_SUMMARY: &[&str] = &[
    "gst summary", "tax summary", "gst analysis", "summary", "vat analysis", "steuer %", "mwst-satz", "gst code", "tax code",
    "gst breakdown",
];

pub(super) const CASH: &[&str] = &[
    "cash", "tunai", "bar", "geg. bar", "gegeben", "especes", "efectivo", "contanti", "contant", "dinheiro", "cash tendered",
    "tendered", "amount tendered", "paid", "payment", "tender",
];

pub(super) const CARD: &[&str] = &[
    "visa", "master", "mastercard", "master card", "amex", "debit", "credit card", "card", "kreditkarte", "ec-karte", "girocard",
    "ec-cash", "maestro", "carte bancaire", "carte", "cb", "tarjeta", "carta", "pinpas", "pin", "cartao", "multibanco", "credit",
    "v pay", "kartenzahlung",
];

pub(super) const CHANGE: &[&str] = &[
    "change", "change due", "cash change", "ruckgeld", "wechselgeld", "zuruck", "rendu", "monnaie", "cambio", "resto",
    "wisselgeld", "troco", "baki", "balance",
];

pub(super) const ROUNDING: &[&str] = &[
    "rounding", "round adj", "rounding adj", "rounding adjustment", "rnd", "round off", "rundung", "arrondi", "redondeo",
    "afronding",
];

pub(super) const DATE: &[&str] = &[
    "date", "datum", "data", "fecha", "dato", "tarikh", "invoice date", "bill date", "rechnungsdatum", "date de facture",
    "date facture", "date d'emission", "fecha de factura", "fecha factura", "data fattura", "data documento", "factuurdatum",
    "data da fatura", "data de emissao", "issued", "issue date", "date of issue", "ausgestellt am", "belegdatum",
];

/// Dates of something else than the document.
pub(super) const OTHER_DATE: &[&str] = &[
    "due", "due date", "delivery", "delivered", "order date", "ship", "shipping", "expiry", "exp", "valid", "until",
    "payment due", "period", "from", "to", "birth", "since", "fallig", "faellig", "falligkeit", "zahlbar", "lieferdatum",
    "leistungsdatum", "leistungszeitraum", "bestelldatum", "gultig", "echeance", "livraison", "commande", "date limite",
    "vencimiento", "entrega", "pedido", "vencimento", "scadenza", "consegna", "ordine", "vervaldatum", "leverdatum",
    "besteldatum", "vervalt", "printed", "print date", "printed on", "member", "joined", "return", "exchange", "act",
];

pub(super) const DUE_DATE: &[&str] = &[
    "due date", "payment due", "due", "due by", "pay by", "fallig am", "faellig am", "fallig", "falligkeit", "zahlbar bis",
    "zahlungsziel", "echeance", "date d'echeance", "date limite", "vencimiento", "fecha de vencimiento", "scadenza",
    "data scadenza", "vervaldatum", "uiterste betaaldatum", "vencimento", "data de vencimento", "falligkeitsdatum",
];

pub(super) const INVOICE_NUMBER: &[&str] = &[
    "invoice number", "invoice no", "invoice nr", "invoice #", "invoice id", "invoice", "inv no", "inv. no", "inv #", "inv.",
    "tax invoice no", "bill no", "bill number", "bill #", "bill", "receipt no", "receipt number", "receipt #", "receipt",
    "doc no", "doc. no", "document no", "document number", "rechnungsnummer", "rechnungs-nr", "rechnungsnr", "rechnung nr",
    "rechnung-nr", "rechnung", "re-nr", "beleg-nr", "belegnummer", "bon-nr", "bon nr", "facture n", "facture no",
    "numero de facture", "n de facture", "n° de facture", "no de facture", "facture n°", "facture", "ref facture", "factura n",
    "factura no", "numero de factura", "n de factura", "n.º factura", "n° factura", "factura numero", "num. factura", "factura",
    "fattura n", "fattura nr", "numero fattura", "n. fattura", "fattura", "factuurnummer", "factuurnr", "factuur nr", "factuur",
    "fatura n", "fatura no", "numero da fatura", "n. da fatura", "fatura",
];

pub(super) const ORDER_NUMBER: &[&str] = &[
    "order number", "order no", "order #", "order id", "purchase order", "po number", "p.o. number", "po no", "your order",
    "order", "bestellnummer", "bestell-nr", "bestellnr", "auftragsnummer", "auftrags-nr", "auftragsnr", "numero de commande",
    "n de commande", "n° de commande", "commande n", "numero de pedido", "n de pedido", "pedido n", "pedido", "numero ordine",
    "ordine n", "bestelnummer", "ordernummer", "numero do pedido", "encomenda",
];

/// What ends a company's name: its legal form. With dots taken out.
pub(super) const LEGAL_FORMS: &[&str] = &[
    "sdn bhd", "sdn. bhd", "sdn.bhd", "s/b", "bhd", "berhad", "gmbh", "gmbh & co kg", "mbh", "ag", "kg", "ohg", "gbr", "ug",
    "e.k", "e.v", "ek", "ltd", "limited", "plc", "llc", "llp", "inc", "corp", "corporation", "co", "company", "sarl", "s.a.r.l",
    "sas", "s.a.s", "sa", "s.a", "eurl", "sasu", "sl", "s.l", "slu", "s.l.u", "spa", "s.p.a", "srl", "s.r.l", "snc", "sas", "bv",
    "b.v", "nv", "n.v", "vof", "v.o.f", "lda", "ltda", "unipessoal", "pty", "pte", "gmbh & co", "b.v.b.a", "bvba", "aps", "ab",
    "oy", "as", "sp. z o.o", "pvt",
];

/// Words in the names of shops and firms.
pub(super) const TRADES: &[&str] = &[
    "enterprise", "enterprises", "trading", "restaurant", "restoran", "store", "stores", "supermarket", "mart", "market",
    "markt", "shop", "cafe", "kedai", "hardware", "pharmacy", "farmasi", "bakery", "bakeries", "hotel", "group", "perniagaan",
    "syarikat", "bookstore", "book", "stationery", "industries", "services", "electrical", "kitchen", "drogerie", "apotheke",
    "backerei", "warenhaus", "boulangerie", "supermercado", "farmacia", "panaderia", "ristorante", "boutique", "holdings",
    "coffee", "food", "foods", "sushi", "hypermarket", "minimarket", "emporium", "centre", "center", "station", "tyre", "motor",
    "auto", "cash & carry", "wholesale", "marketing", "international", "resources", "eatery", "bistro", "bar", "house",
];

/// What no name or address is: labels, headings, greetings.
pub(super) const NO_NAME: &[&str] = &[
    "tel", "tel.", "fax", "phone", "telefon", "gst", "invoice", "tax", "receipt", "date", "cashier", "bill", "reg", "regn",
    "no.", "roc", "welcome", "thank", "thanks", "customer", "copy", "original", "duplicate", "order", "table", "rechnung",
    "quittung", "beleg", "bon", "facture", "factura", "fattura", "factuur", "fatura", "www", "http", "email", "e-mail", "co.reg",
    "company no", "uid", "steuer", "ust-id", "steuernummer", "page", "seite", "simplified", "reprint", "website", "kassenbon",
    "ticket",
];

/// Ends an address: what follows is something else.
pub(super) const AFTER_ADDRESS: &[&str] = &[
    "tel", "tel.", "tel no", "fax", "phone", "telephone", "telefon", "hp", "h/p", "gst", "gst id", "gst no", "gst reg",
    "invoice", "tax invoice", "receipt", "date", "cashier", "bill", "bill no", "roc", "reg no", "reg. no", "co. reg", "co.reg",
    "company no", "company reg", "co no", "co. no", "email", "e-mail", "website", "www", "http", "uid", "ust-id", "ust-idnr",
    "steuernummer", "steuer-nr", "siret", "siren", "tva", "nif", "cif", "p.iva", "p. iva", "partita iva", "kvk", "btw", "nipc",
    "order", "table", "customer", "sold to", "bill to", "invoice to", "attention", "attn", "to:", "simplified", "cash bill",
    "cash sales", "sales", "welcome", "thank", "document", "doc no", "member", "operator", "counter", "pos", "terminal", "sst",
    "sst no", "service tax", "opening", "hours", "business hours", "whatsapp", "mobile", "contact", "rechnung", "facture",
    "factura", "fattura", "factuur", "fatura", "iban", "bic", "eur", "qty", "description", "item", "slip", "trans",
    "salesperson", "staff", "server", "owned by", "gst-id", "gstid", "tin",
];

/// Words of streets and places.
pub(super) const PLACES: &[&str] = &[
    "jalan", "jln", "lot", "lorong", "taman", "kampung", "bandar", "persiaran", "lebuh", "lebuhraya", "seksyen", "section",
    "selangor", "johor", "kuala", "lumpur", "street", "st", "road", "rd", "avenue", "ave", "lane", "drive", "floor", "level",
    "block", "blok", "unit", "suite", "plaza", "mall", "no", "no.", "strasse", "str", "str.", "weg", "platz", "allee", "rue",
    "boulevard", "blvd", "place", "calle", "avenida", "via", "viale", "piazza", "straat", "laan", "plein", "rua", "praca",
    "postfach", "po box", "p.o. box", "ground", "tingkat", "kawasan", "perindustrian", "industrial", "park", "batu", "mukim",
    "wilayah", "desa", "bukit", "chemin", "route", "quai", "singapore", "malaysia", "pusat", "shah alam", "cheras", "puchong",
    "petaling",
];
