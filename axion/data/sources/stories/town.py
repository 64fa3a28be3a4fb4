"""Stories about town: the bakery, the bus, the orchard, the shop."""

from axion.data.sources.stories.parts import Family, Step, part

BAKERY = Family(
    things=(
        ("cookies", "biscoitos", "m"),
        ("rolls", "pãezinhos", "m"),
        ("muffins", "bolinhos", "m"),
        ("pies", "tortas", "f"),
        ("doughnuts", "rosquinhas", "f"),
    ),
    now_en="Now the bakery has {=} {things}.",
    now_pt="Agora a padaria tem {=} {things}.",
    openings=(
        part("A bakery opens with {v} {things}.", "Uma padaria abre com {v} {things}."),
        part(
            "A bakery bakes {m} trays with {k} {things} on each.",
            "Uma padaria assa {m} bandejas com {k} {things} em cada uma.",
            Step("m * k", "The bakery bakes {=} {things}.", "A padaria assa {=} {things}."),
        ),
        part(
            "A bakery makes {a} {things} in the morning and {b} in the afternoon.",
            "Uma padaria faz {a} {things} de manhã e {b} à tarde.",
            Step("a + b", "The bakery makes {=} {things}.", "A padaria faz {=} {things}."),
        ),
    ),
    events=(
        part(
            "The bakery sells {k} {things}. | Customers buy {k} {things}.",
            "A padaria vende {k} {things}. | Os clientes compram {k} {things}.",
            "v - k",
        ),
        part(
            "{N} buys {m} boxes with {g} {things} in each.",
            "{N} compra {m} caixas com {g} {things} em cada uma.",
            Step("m * g", "{N} buys {=} {things}.", "{N} compra {=} {things}.", "w"),
            "v - w",
        ),
        part("{k} more {things} come out of the oven.", "Mais {k} {things} saem do forno.", "v + k"),
        part(
            "{g} {things} fall on the floor and are thrown away.",
            "{g} {things} caem no chão e vão para o lixo.",
            "v - g",
        ),
        part(
            "Half of the {things} go to a school. | {N} buys half of the {things}.",
            "Metade d[os|as] {things} vai para uma escola. | {N} compra metade d[os|as] {things}.",
            "v / 2",
        ),
    ),
    closings=(
        part(
            "How many {things} does the bakery have now? | How many {things} are left?",
            "Quant[os|as] {things} a padaria tem agora? | Quant[os|as] {things} restam?",
        ),
        part(
            "The baker puts the rest into bags of {m}. How many bags are there?",
            "O padeiro põe o resto em sacos de {m}. Quantos sacos há?",
            Step("v / m", "There are {=} bags.", "Há {=} sacos."),
        ),
        part(
            "The rest are sold for {p} dollars each. How many dollars does the bakery receive for the rest?",
            "O resto é vendido por {p} reais a unidade. Quantos reais a padaria recebe pelo resto?",
            Step("v * p", "The bakery receives {=} dollars.", "A padaria recebe {=} reais."),
        ),
        part(
            "A hotel orders {t} {things}. How many more must the bakery bake?",
            "Um hotel encomenda {t} {things}. Quant[os|as] {things} a padaria ainda precisa assar?",
            Step("t - v", "The bakery must bake {=} {things}.", "A padaria precisa assar {=} {things}."),
        ),
    ),
)

BUS = Family(
    things=(("passengers", "passageiros", "m"),),
    now_en="Now there are {=} passengers.",
    now_pt="Agora há {=} passageiros.",
    linked=False,
    openings=(
        part("A bus leaves the station with {v} passengers.", "Um ônibus sai da rodoviária com {v} passageiros."),
        part(
            "{a} adults and {b} children get on an empty bus.",
            "{a} adultos e {b} crianças entram em um ônibus vazio.",
            Step("a + b", "There are {=} passengers at first.", "No começo, há {=} passageiros."),
        ),
        part(
            "A train has {m} cars with {k} passengers in each.",
            "Um trem tem {m} vagões com {k} passageiros em cada um.",
            Step("m * k", "There are {=} passengers at first.", "No começo, há {=} passageiros."),
        ),
    ),
    events=(
        part(
            "At the market, {k} passengers get on. | At the school, {k} passengers get on.",
            "No mercado, entram {k} passageiros. | Na escola, entram {k} passageiros.",
            "v + k",
        ),
        part(
            "At the park, {k} passengers get off. | At the hospital, {k} passengers get off.",
            "No parque, descem {k} passageiros. | No hospital, descem {k} passageiros.",
            "v - k",
        ),
        part(
            "At the square, {k} passengers get off and {g} get on.",
            "Na praça, descem {k} passageiros e entram {g}.",
            Step("v - k", "After {k} get off, there are {=} passengers.", "Depois que {k} descem, há {=} passageiros."),
            "v + g",
        ),
        part(
            "At the beach, half of the passengers get off.",
            "Na praia, desce metade dos passageiros.",
            "v / 2",
        ),
        part(
            "At the museum, {m} families of {g} people get on.",
            "No museu, entram {m} famílias de {g} pessoas.",
            Step("m * g", "The families are {=} people.", "As famílias somam {=} pessoas.", "w"),
            "v + w",
        ),
    ),
    closings=(
        part(
            "How many passengers are there now? | How many passengers go on to the last stop?",
            "Quantos passageiros há agora? | Quantos passageiros seguem até o ponto final?",
        ),
        part(
            "There are {t} seats, one for each passenger. How many seats are empty?",
            "Há {t} lugares, um para cada passageiro. Quantos lugares estão vazios?",
            Step("t - v", "{=} seats are empty.", "Há {=} lugares vazios."),
        ),
        part(
            "Each of these passengers has paid {p} dollars. How many dollars have they paid in all?",
            "Cada um desses passageiros pagou {p} reais. Quantos reais eles pagaram ao todo?",
            Step("v * p", "They have paid {=} dollars.", "Eles pagaram {=} reais."),
        ),
        part(
            "At the last stop, they all change to vans, {m} in each. How many vans do they need?",
            "No ponto final, todos passam para vans, {m} em cada uma. De quantas vans eles precisam?",
            Step("v / m", "They need {=} vans.", "Eles precisam de {=} vans."),
        ),
    ),
)

ORCHARD = Family(
    things=(
        ("apples", "maçãs", "f"),
        ("oranges", "laranjas", "f"),
        ("mangoes", "mangas", "f"),
        ("lemons", "limões", "m"),
        ("peaches", "pêssegos", "m"),
    ),
    now_en="Then {N} has {=} {things}.",
    now_pt="Então {N} tem {=} {things}.",
    openings=(
        part(
            "{N} brings {v} {things} from the orchard. | {N} picks {v} {things}.",
            "{N} traz {v} {things} do pomar. | {N} colhe {v} {things}.",
        ),
        part(
            "{N} picks {k} {things} from each of {m} trees.",
            "{N} colhe {k} {things} de cada uma de {m} árvores.",
            Step("k * m", "{N} picks {=} {things}.", "{N} colhe {=} {things}."),
        ),
        part(
            "{N} picks {a} {things} on Saturday and {b} on Sunday.",
            "{N} colhe {a} {things} no sábado e {b} no domingo.",
            Step("a + b", "{N} picks {=} {things}.", "{N} colhe {=} {things}."),
        ),
    ),
    events=(
        part(
            "{N} gives {k} {things} to the neighbours. | {N} throws away {k} rotten {things}.",
            "{N} dá {k} {things} aos vizinhos. | {N} joga fora {k} {things} podres.",
            "v - k",
        ),
        part(
            "{N} sells {m} baskets with {g} {things} in each.",
            "{N} vende {m} cestas com {g} {things} em cada uma.",
            Step("m * g", "{N} sells {=} {things}.", "{N} vende {=} {things}.", "w"),
            "v - w",
        ),
        part(
            "{M} brings {N} {k} more {things}.",
            "{M} traz mais {k} {things} para {N}.",
            "v + k",
        ),
        part(
            "{N} uses half of the {things} for juice. | {N} sells half of the {things} at the market.",
            "{N} usa metade d[os|as] {things} para fazer suco. | {N} vende metade d[os|as] {things} na feira.",
            "v / 2",
        ),
    ),
    closings=(
        part(
            "How many {things} does {N} have left?",
            "Com quant[os|as] {things} {N} fica?",
        ),
        part(
            "{N} puts the {things} into bags of {m}. How many bags does {N} fill?",
            "{N} põe [os|as] {things} em sacolas de {m}. Quantas sacolas {N} enche?",
            Step("v / m", "{N} fills {=} bags.", "{N} enche {=} sacolas."),
        ),
        part(
            "{N} sells the rest for {p} dollars each. How many dollars does {N} get for the rest?",
            "{N} vende o resto por {p} reais cada um[|a]. Quantos reais {N} recebe pelo resto?",
            Step("v * p", "{N} gets {=} dollars.", "{N} recebe {=} reais."),
        ),
        part(
            "{N} needs {t} {things} to make jam. How many {things} are missing?",
            "{N} precisa de {t} {things} para fazer geleia. Quant[os|as] {things} faltam?",
            Step("t - v", "{=} {things} are missing.", "Faltam {=} {things}."),
        ),
    ),
)

SHOPPING = Family(
    things=(
        ("notebooks", "cadernos", "m"),
        ("T-shirts", "camisetas", "f"),
        ("plates", "pratos", "m"),
        ("balls", "bolas", "f"),
        ("lamps", "luminárias", "f"),
    ),
    now_en="Now the bill is {=} dollars.",
    now_pt="Agora a conta é de {=} reais.",
    openings=(
        part(
            "{N} buys {m} {things} for {p} dollars each.",
            "{N} compra {m} {things} por {p} reais cada um[|a].",
            Step("m * p", "The {things} cost {=} dollars.", "[Os|As] {things} custam {=} reais."),
        ),
        part(
            "{N} buys {m} {things} for {p} dollars each and a bag for {k} dollars.",
            "{N} compra {m} {things} por {p} reais cada um[|a] e uma bolsa por {k} reais.",
            Step("m * p", "The {things} cost {=} dollars.", "[Os|As] {things} custam {=} reais.", "w"),
            Step("w + k", "With the bag it is {=} dollars.", "Com a bolsa, são {=} reais."),
        ),
    ),
    events=(
        part(
            "{N} also buys a chair for {k} dollars. | {N} also buys a clock for {k} dollars.",
            "{N} também compra uma cadeira por {k} reais. | {N} também compra um relógio por {k} reais.",
            "v + k",
        ),
        part(
            "{N} also buys {m} pens for {g} dollars each.",
            "{N} também compra {m} canetas por {g} reais cada uma.",
            Step("m * g", "The pens cost {=} dollars.", "As canetas custam {=} reais.", "w"),
            "v + w",
        ),
        part(
            "{N} gets a discount of {g} dollars. | The shop takes {g} dollars off the bill.",
            "{N} ganha um desconto de {g} reais. | A loja tira {g} reais da conta.",
            "v - g",
        ),
        part("A coupon cuts the bill in half.", "Um cupom reduz a conta à metade.", "v / 2"),
    ),
    closings=(
        part(
            "How many dollars does {N} pay? | How much is the bill?",
            "Quantos reais {N} paga? | De quanto é a conta?",
        ),
        part(
            "{N} pays with {c} dollars. How many dollars does {N} get back?",
            "{N} paga com {c} reais. Quantos reais {N} recebe de troco?",
            Step("c - v", "{N} gets back {=} dollars.", "{N} recebe {=} reais de troco."),
        ),
        part(
            "The bill is shared equally among {m} people. How many dollars does each one pay?",
            "A conta é dividida igualmente entre {m} pessoas. Quantos reais cada pessoa paga?",
            Step("v / m", "Each one pays {=} dollars.", "Cada pessoa paga {=} reais."),
        ),
        part(
            "{N} has only {k} dollars. How many dollars are missing?",
            "{N} tem apenas {k} reais. Quantos reais faltam?",
            Step("v - k", "{=} dollars are missing.", "Faltam {=} reais."),
        ),
    ),
)
