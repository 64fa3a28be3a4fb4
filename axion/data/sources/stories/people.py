"""Stories about people side by side: who has more, who is older, a class on a trip, a day's work."""

from axion.data.sources.stories.parts import Family, Step, part

COMPARISON = Family(
    things=(
        ("cards", "cartas", "f"),
        ("medals", "medalhas", "f"),
        ("coins", "moedas", "f"),
        ("stamps", "selos", "m"),
        ("caps", "bonés", "m"),
    ),
    now_en="{O} has {=} {things}.",
    now_pt="{O} tem {=} {things}.",
    num_events=(1, 1),
    openings=(
        part(
            "{N} has {a} {things}. {M} has {k} more {things} than {N}.",
            "{N} tem {a} {things}. {M} tem {k} {things} a mais do que {N}.",
            Step("a + k", "{M} has {=} {things}.", "{M} tem {=} {things}.", "b"),
        ),
        part(
            "{N} has {a} {things}. {M} has {k} fewer {things} than {N}.",
            "{N} tem {a} {things}. {M} tem {k} {things} a menos do que {N}.",
            Step("a - k", "{M} has {=} {things}.", "{M} tem {=} {things}.", "b"),
        ),
        part(
            "{N} has {a} {things}. {M} has {m} times as many {things} as {N}.",
            "{N} tem {a} {things}. {M} tem {m} vezes a quantidade de {N}.",
            Step("a * m", "{M} has {=} {things}.", "{M} tem {=} {things}.", "b"),
        ),
        part(
            "{N} has {a} {things}. {M} has half as many {things} as {N}.",
            "{N} tem {a} {things}. {M} tem metade da quantidade de {N}.",
            Step("a / 2", "{M} has {=} {things}.", "{M} tem {=} {things}.", "b"),
        ),
    ),
    events=(
        part(
            "{O} has {k} more {things} than {M}.",
            "{O} tem {k} {things} a mais do que {M}.",
            "b + k",
        ),
        part(
            "{O} has {k} fewer {things} than {M}.",
            "{O} tem {k} {things} a menos do que {M}.",
            "b - k",
        ),
        part(
            "{O} has {m} times as many {things} as {M}.",
            "{O} tem {m} vezes a quantidade de {M}.",
            "b * m",
        ),
        part(
            "{O} has as many {things} as {N} and {M} together.",
            "{O} tem a mesma quantidade que {N} e {M} têm ao todo.",
            "a + b",
        ),
    ),
    closings=(
        part(
            "How many {things} does {O} have?",
            "Quant[os|as] {things} {O} tem?",
        ),
        part(
            "How many {things} do {N} and {O} have together?",
            "Quant[os|as] {things} {N} e {O} têm ao todo?",
            Step("a + v", "{N} and {O} have {=} {things}.", "{N} e {O} têm {=} {things}."),
        ),
        part(
            "How many more {things} does {O} have than {N}?",
            "Quant[os|as] {things} {O} tem a mais do que {N}?",
            Step("v - a", "The difference is {=} {things}.", "A diferença é de {=} {things}."),
        ),
        part(
            "How many {things} do {N}, {M} and {O} have in all?",
            "Quant[os|as] {things} {N}, {M} e {O} têm ao todo?",
            Step("a + b", "{N} and {M} have {=} {things}.", "{N} e {M} têm {=} {things}.", "w"),
            Step("w + v", "In all there are {=} {things}.", "Ao todo são {=} {things}."),
        ),
        part(
            "{N} and {O} put their {things} together in {m} equal piles. How many {things} are in each pile?",
            "{N} e {O} juntam [os|as] {things} em {m} montes iguais. Quant[os|as] {things} há em cada monte?",
            Step("a + v", "{N} and {O} have {=} {things}.", "{N} e {O} têm {=} {things}.", "w"),
            Step("w / m", "Each pile has {=} {things}.", "Cada monte tem {=} {things}."),
        ),
    ),
)

AGES = Family(
    things=(("years", "anos", "m"),),
    now_en="{O} is {=} years old.",
    now_pt="{O} tem {=} anos.",
    num_events=(1, 1),
    openings=(
        part(
            "{N} is {y} years old. {M} is {g} years older than {N}.",
            "{N} tem {y} anos. {M} tem {g} anos a mais do que {N}.",
            Step("y + g", "{M} is {=} years old.", "{M} tem {=} anos.", "b"),
        ),
        part(
            "{N} is {y} years old. {M} is {g} years younger than {N}.",
            "{N} tem {y} anos. {M} tem {g} anos a menos do que {N}.",
            Step("y - g", "{M} is {=} years old.", "{M} tem {=} anos.", "b"),
        ),
        part(
            "{N} is {y} years old. {M} is twice as old as {N}.",
            "{N} tem {y} anos. {M} tem o dobro da idade de {N}.",
            Step("y * 2", "{M} is {=} years old.", "{M} tem {=} anos.", "b"),
        ),
    ),
    events=(
        part("{O} is {g} years older than {M}.", "{O} tem {g} anos a mais do que {M}.", "b + g"),
        part("{O} is {g} years younger than {M}.", "{O} tem {g} anos a menos do que {M}.", "b - g"),
        part("{O} is twice as old as {M}.", "{O} tem o dobro da idade de {M}.", "b * 2"),
        part(
            "{O} is as old as {N} and {M} together.",
            "A idade de {O} é a soma das idades de {N} e {M}.",
            "y + b",
        ),
    ),
    closings=(
        part("How old is {O}?", "Quantos anos {O} tem?"),
        part(
            "How old will {O} be in {p} years?",
            "Quantos anos {O} terá daqui a {p} anos?",
            Step("v + p", "{O} will be {=} years old.", "{O} terá {=} anos."),
        ),
        part(
            "What is the sum of the ages of {N} and {O}?",
            "Qual é a soma das idades de {N} e {O}?",
            Step("y + v", "The sum is {=} years.", "A soma é {=} anos."),
        ),
        part(
            "What is the sum of their three ages?",
            "Qual é a soma das três idades?",
            Step("y + b", "{N} and {M} add up to {=} years.", "{N} e {M} somam {=} anos.", "w"),
            Step("w + v", "The sum is {=} years.", "A soma é {=} anos."),
        ),
    ),
)

SCHOOL_TRIP = Family(
    things=(("people", "pessoas", "f"),),
    now_en="Now the group has {=} people.",
    now_pt="Agora o grupo tem {=} pessoas.",
    openings=(
        part(
            "{m} classes of {k} pupils go on a trip.",
            "{m} turmas de {k} alunos vão fazer um passeio.",
            Step("m * k", "There are {=} pupils.", "São {=} alunos."),
        ),
        part(
            "{a} girls and {b} boys go on a school trip.",
            "{a} meninas e {b} meninos vão a um passeio da escola.",
            Step("a + b", "There are {=} children.", "São {=} crianças."),
        ),
        part("A school takes {v} pupils to the zoo.", "Uma escola leva {v} alunos ao zoológico."),
    ),
    events=(
        part(
            "{g} teachers join the group. | {g} mothers join the group.",
            "{g} professores entram no grupo. | {g} mães entram no grupo.",
            "v + g",
        ),
        part(
            "{g} pupils feel ill and go home. | {g} pupils have to go home early.",
            "{g} alunos passam mal e voltam para casa. | {g} alunos precisam voltar mais cedo.",
            "v - g",
        ),
        part(
            "{m} groups of {g} visitors come along.",
            "{m} grupos de {g} visitantes vão junto.",
            Step("m * g", "There are {=} visitors.", "São {=} visitantes.", "w"),
            "v + w",
        ),
        part(
            "Half of the group leaves and walks to the park.",
            "Metade do grupo sai e vai a pé para o parque.",
            "v / 2",
        ),
    ),
    closings=(
        part("How many people are in the group now?", "Quantas pessoas há no grupo agora?"),
        part(
            "They walk in rows of {m}. How many rows are there?",
            "O grupo anda em filas de {m}. Quantas filas há?",
            Step("v / m", "There are {=} rows.", "Há {=} filas."),
        ),
        part(
            "Each person pays {p} dollars to get in. How many dollars is that in all?",
            "Cada pessoa paga {p} reais para entrar. Quantos reais são ao todo?",
            Step("v * p", "In all it is {=} dollars.", "Ao todo são {=} reais."),
        ),
        part(
            "Each person eats {g} sandwiches. How many sandwiches do they eat?",
            "Cada pessoa come {g} sanduíches. Quantos sanduíches o grupo come?",
            Step("v * g", "They eat {=} sandwiches.", "O grupo come {=} sanduíches."),
        ),
        part(
            "Their buses have {t} seats in all. How many seats stay empty?",
            "Os ônibus do passeio têm {t} lugares ao todo. Quantos lugares ficam vazios?",
            Step("t - v", "{=} seats stay empty.", "Ficam vazios {=} lugares."),
        ),
    ),
)

WORK = Family(
    things=(("dollars", "reais", "m"),),
    now_en="Now {N} has {=} dollars.",
    now_pt="Agora {N} tem {=} reais.",
    openings=(
        part(
            "{N} works {m} hours and earns {p} dollars an hour.",
            "{N} trabalha {m} horas e ganha {p} reais por hora.",
            Step("m * p", "{N} earns {=} dollars.", "{N} ganha {=} reais."),
        ),
        part(
            "{N} works {m} hours a day for {g} days and earns {p} dollars an hour.",
            "{N} trabalha {m} horas por dia durante {g} dias e ganha {p} reais por hora.",
            Step("m * g", "{N} works {=} hours.", "{N} trabalha {=} horas.", "w"),
            Step("w * p", "{N} earns {=} dollars.", "{N} ganha {=} reais."),
        ),
        part(
            "{N} paints {m} walls and earns {k} dollars for each.",
            "{N} pinta {m} paredes e ganha {k} reais por cada uma.",
            Step("m * k", "{N} earns {=} dollars.", "{N} ganha {=} reais."),
        ),
    ),
    events=(
        part(
            "{N} gets a bonus of {k} dollars. | {N} gets {k} dollars in tips.",
            "{N} recebe um bônus de {k} reais. | {N} recebe {k} reais de gorjeta.",
            "v + k",
        ),
        part(
            "{N} pays {k} dollars for new tools. | {N} pays {k} dollars for the bus.",
            "{N} paga {k} reais por ferramentas novas. | {N} paga {k} reais de ônibus.",
            "v - k",
        ),
        part(
            "{N} buys {m} lunches that cost {p} dollars each.",
            "{N} compra {m} almoços que custam {p} reais cada um.",
            Step("m * p", "The lunches cost {=} dollars.", "Os almoços custam {=} reais.", "w"),
            "v - w",
        ),
        part(
            "{N} puts half of the money in the bank and keeps the rest.",
            "{N} põe metade do dinheiro no banco e fica com o resto.",
            "v / 2",
        ),
    ),
    closings=(
        part(
            "How many dollars does {N} have now? | How much money does {N} have left?",
            "Quantos reais {N} tem agora? | Com quanto dinheiro {N} fica?",
        ),
        part(
            "The rent is {t} dollars. How many dollars are missing?",
            "O aluguel é de {t} reais. Quantos reais faltam?",
            Step("t - v", "{=} dollars are missing.", "Faltam {=} reais."),
        ),
        part(
            "{N} gives the money to {m} sisters in equal parts. How many dollars does each sister get?",
            "{N} divide o dinheiro em partes iguais entre {m} irmãs. Quantos reais cada irmã recebe?",
            Step("v / m", "Each sister gets {=} dollars.", "Cada irmã recebe {=} reais."),
        ),
        part(
            "{M} has {k} dollars more than {N} has now. How many dollars do {N} and {M} have together?",
            "{M} tem {k} reais a mais do que {N} tem agora. Quantos reais {N} e {M} têm ao todo?",
            Step("v + k", "{M} has {=} dollars.", "{M} tem {=} reais.", "w"),
            Step("v + w", "Together they have {=} dollars.", "Ao todo são {=} reais."),
        ),
    ),
)
