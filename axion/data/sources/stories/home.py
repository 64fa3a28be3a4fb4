"""Stories at home: collections, savings, books."""

from axion.data.sources.stories.parts import Family, Step, part

COLLECTION = Family(
    things=(
        ("stickers", "figurinhas", "f"),
        ("marbles", "bolinhas de gude", "f"),
        ("postcards", "cartões-postais", "m"),
        ("toy cars", "carrinhos", "m"),
        ("comic books", "gibis", "m"),
        ("shells", "conchas", "f"),
        ("buttons", "botões", "m"),
    ),
    now_en="Now {N} has {=} {things}.",
    now_pt="Agora {N} tem {=} {things}.",
    openings=(
        part(
            "{N} has {v} {things}. | {N} has a collection of {v} {things}.",
            "{N} tem {v} {things}. | {N} tem uma coleção de {v} {things}.",
        ),
        part(
            "{N} has {m} boxes with {k} {things} in each.",
            "{N} tem {m} caixas com {k} {things} em cada uma.",
            Step("m * k", "At first {N} has {=} {things}.", "No começo, {N} tem {=} {things}."),
        ),
        part(
            "{N} keeps {a} {things} in a drawer and {b} {things} in a box.",
            "{N} guarda {a} {things} em uma gaveta e {b} {things} em uma caixa.",
            Step("a + b", "At first {N} has {=} {things}.", "No começo, {N} tem {=} {things}."),
        ),
        part(
            "{M} has {k} {things}, and {N} has {m} times as many.",
            "{M} tem {k} {things}, e {N} tem {m} vezes essa quantidade.",
            Step("k * m", "{N} has {=} {things}.", "{N} tem {=} {things}."),
        ),
    ),
    events=(
        part(
            "{N} buys {k} more {things}. | {N} finds {k} more {things} at home.",
            "{N} compra mais {k} {things}. | {N} encontra mais {k} {things} em casa.",
            "v + k",
        ),
        part(
            "{N} gives {k} {things} to {M}. | {N} loses {k} {things}.",
            "{N} dá {k} {things} para {M}. | {N} perde {k} {things}.",
            "v - k",
        ),
        part(
            "{N} buys {m} packs with {k} {things} in each.",
            "{N} compra {m} pacotes com {k} {things} em cada um.",
            Step("m * k", "The packs hold {=} {things}.", "Nos pacotes há {=} {things}.", "w"),
            "v + w",
        ),
        part(
            "{N} gives {g} {things} to each of {m} friends.",
            "{N} dá {g} {things} para cada um de {m} amigos.",
            Step("g * m", "{N} gives away {=} {things}.", "{N} dá {=} {things} aos amigos.", "w"),
            "v - w",
        ),
        part(
            "{O} gives {N} as many {things} as {N} already has.",
            "{N} ganha de {O} a mesma quantidade de {things} que já tem.",
            "v * 2",
        ),
        part(
            "{N} sells half of the {things}. | {N} gives half of the {things} to a school.",
            "{N} vende metade d[os|as] {things}. | {N} dá metade d[os|as] {things} para uma escola.",
            "v / 2",
        ),
    ),
    closings=(
        part(
            "How many {things} does {N} have now? | How many {things} does {N} have in the end?",
            "Quant[os|as] {things} {N} tem agora? | Com quant[os|as] {things} {N} fica no final?",
        ),
        part(
            "{N} shares all the {things} equally among {m} friends. How many {things} does each friend get?",
            "{N} divide tod[os|as] [os|as] {things} igualmente entre {m} amigos. "
            "Quant[os|as] {things} cada amigo recebe?",
            Step("v / m", "Each friend gets {=} {things}.", "Cada amigo recebe {=} {things}."),
        ),
        part(
            "{N} wants to have {t} {things}. How many more {things} does {N} need?",
            "{N} quer ter {t} {things}. Quant[os|as] {things} ainda faltam?",
            Step("t - v", "{N} still needs {=} {things}.", "Ainda faltam {=} {things}."),
        ),
        part(
            "{N} sells all the {things} for {p} dollars each. How many dollars does {N} receive?",
            "{N} vende tod[os|as] [os|as] {things} por {p} reais cada um[|a]. Quantos reais {N} recebe?",
            Step("v * p", "{N} receives {=} dollars.", "{N} recebe {=} reais."),
        ),
        part(
            "{O} has {k} more {things} than {N} has now. How many {things} do {N} and {O} have together?",
            "{O} tem {k} {things} a mais do que {N} tem agora. Quant[os|as] {things} {N} e {O} têm ao todo?",
            Step("v + k", "{O} has {=} {things}.", "{O} tem {=} {things}.", "w"),
            Step("v + w", "Together they have {=} {things}.", "Ao todo são {=} {things}."),
        ),
    ),
)

SAVINGS = Family(
    things=(("dollars", "reais", "m"),),
    now_en="Now {N} has {=} dollars.",
    now_pt="Agora {N} tem {=} reais.",
    openings=(
        part("{N} has {v} dollars in a piggy bank.", "{N} tem {v} reais em um cofrinho."),
        part(
            "{N} saves {k} dollars a week for {m} weeks.",
            "{N} guarda {k} reais por semana durante {m} semanas.",
            Step("k * m", "{N} saves {=} dollars.", "{N} guarda {=} reais."),
        ),
        part(
            "{N} gets {a} dollars from {M} and {b} dollars from {O}.",
            "{N} ganha {a} reais de {M} e {b} reais de {O}.",
            Step("a + b", "{N} gets {=} dollars.", "{N} ganha {=} reais."),
        ),
        part(
            "{N} washes {m} cars and earns {p} dollars for each.",
            "{N} lava {m} carros e recebe {p} reais por cada um.",
            Step("m * p", "{N} earns {=} dollars.", "{N} recebe {=} reais."),
        ),
    ),
    events=(
        part(
            "{N} earns {k} dollars by walking dogs. | {N} sells an old toy for {k} dollars.",
            "{N} ganha {k} reais passeando com cachorros. | {N} vende um brinquedo velho por {k} reais.",
            "v + k",
        ),
        part(
            "{N} spends {k} dollars on a book. | {N} spends {k} dollars at the cinema.",
            "{N} gasta {k} reais em um livro. | {N} gasta {k} reais no cinema.",
            "v - k",
        ),
        part(
            "{N} buys {m} tickets that cost {p} dollars each.",
            "{N} compra {m} ingressos que custam {p} reais cada um.",
            Step("m * p", "The tickets cost {=} dollars.", "Os ingressos custam {=} reais.", "w"),
            "v - w",
        ),
        part("{N}'s grandmother doubles the money.", "A avó de {N} dobra o dinheiro.", "v * 2"),
        part(
            "{N} spends half of the money on a present. | {N} lends half of the money to {M}.",
            "{N} gasta metade do dinheiro em um presente. | {N} empresta metade do dinheiro para {M}.",
            "v / 2",
        ),
    ),
    closings=(
        part(
            "How many dollars does {N} have now? | How much money does {N} have in the end?",
            "Quantos reais {N} tem agora? | Com quanto dinheiro {N} fica no final?",
        ),
        part(
            "{N} wants a bicycle that costs {t} dollars. How many dollars are missing?",
            "{N} quer uma bicicleta que custa {t} reais. Quantos reais ainda faltam?",
            Step("t - v", "{=} dollars are missing.", "Faltam {=} reais."),
        ),
        part(
            "With all this money {N} buys notebooks for {p} dollars each. How many notebooks does {N} buy?",
            "Com todo esse dinheiro, {N} compra cadernos de {p} reais cada um. Quantos cadernos {N} compra?",
            Step("v / p", "{N} buys {=} notebooks.", "{N} compra {=} cadernos."),
        ),
        part(
            "{N} splits the money equally among {m} envelopes. How many dollars go into each envelope?",
            "{N} divide o dinheiro igualmente entre {m} envelopes. Quantos reais vão para cada envelope?",
            Step("v / m", "Each envelope gets {=} dollars.", "Cada envelope recebe {=} reais."),
        ),
    ),
)

READING = Family(
    things=(("pages", "páginas", "f"),),
    now_en="So far {N} has read {=} pages.",
    now_pt="Até aqui, {N} leu {=} páginas.",
    openings=(
        part(
            "{N} reads {k} pages a day for {m} days.",
            "{N} lê {k} páginas por dia durante {m} dias.",
            "k * m",
        ),
        part(
            "{N} reads {a} pages of a book on Monday and {b} on Tuesday.",
            "{N} lê {a} páginas de um livro na segunda-feira e {b} na terça-feira.",
            "a + b",
        ),
        part(
            "{N} reads {k} pages of a book on Monday and {m} times as many on Tuesday.",
            "{N} lê {k} páginas de um livro na segunda-feira e {m} vezes essa quantidade na terça-feira.",
            Step("k * m", "On Tuesday {N} reads {=} pages.", "Na terça-feira, {N} lê {=} páginas.", "w"),
            "k + w",
        ),
    ),
    events=(
        part(
            "{N} reads {k} more pages on the bus. | {N} reads {k} more pages in bed.",
            "{N} lê mais {k} páginas no ônibus. | {N} lê mais {k} páginas na cama.",
            "v + k",
        ),
        part(
            "{N} reads {m} chapters with {p} pages in each.",
            "{N} lê {m} capítulos com {p} páginas em cada um.",
            Step("m * p", "The chapters have {=} pages.", "Os capítulos têm {=} páginas.", "w"),
            "v + w",
        ),
        part(
            "{N} reads as many pages again in the holidays.",
            "{N} lê outra vez a mesma quantidade de páginas nas férias.",
            "v * 2",
        ),
    ),
    closings=(
        part("How many pages has {N} read in all?", "Quantas páginas {N} leu ao todo?"),
        part(
            "The book has {t} pages. How many pages are left to read?",
            "O livro tem {t} páginas. Quantas páginas ainda faltam?",
            Step("t - v", "{=} pages are left.", "Faltam {=} páginas."),
        ),
        part(
            "The book has {t} pages, and {N} wants to finish it in {m} days. How many pages a day is that?",
            "O livro tem {t} páginas, e {N} quer terminar em {m} dias. Quantas páginas por dia são?",
            Step("t - v", "{=} pages are left.", "Faltam {=} páginas.", "w"),
            Step("w / m", "That is {=} pages a day.", "São {=} páginas por dia."),
        ),
        part(
            "Each page takes {g} minutes. For how many minutes has {N} read?",
            "Cada página leva {g} minutos. Durante quantos minutos {N} leu?",
            Step("v * g", "{N} has read for {=} minutes.", "{N} leu durante {=} minutos."),
        ),
    ),
)
