"""Stories outdoors: eggs from the farm, a water tank, a journey, a fence."""

from axion.data.sources.stories.parts import Family, Step, part

FARM = Family(
    things=(("eggs", "ovos", "m"),),
    now_en="Now {N} has {=} eggs.",
    now_pt="Agora {N} tem {=} ovos.",
    openings=(
        part(
            "{N}'s hens lay {k} eggs a day. {N} collects them for {m} days.",
            "As galinhas de {N} põem {k} ovos por dia. {N} junta os ovos de {m} dias.",
            Step("k * m", "{N} collects {=} eggs.", "{N} junta {=} ovos."),
        ),
        part(
            "{N} collects {a} white eggs and {b} brown eggs.",
            "{N} recolhe {a} ovos brancos e {b} ovos vermelhos.",
            Step("a + b", "{N} collects {=} eggs.", "{N} recolhe {=} ovos."),
        ),
        part("{N} has {v} eggs from the farm.", "{N} tem {v} ovos da fazenda."),
    ),
    events=(
        part(
            "{N} breaks {g} eggs on the way. | {N} eats {g} eggs.",
            "{N} quebra {g} ovos no caminho. | {N} come {g} ovos.",
            "v - g",
        ),
        part(
            "{N} bakes {m} cakes with {g} eggs in each.",
            "{N} faz {m} bolos com {g} ovos em cada um.",
            Step("m * g", "The cakes take {=} eggs.", "Os bolos levam {=} ovos.", "w"),
            "v - w",
        ),
        part(
            "{N} sells {m} boxes of 12 eggs.",
            "{N} vende {m} caixas de 12 ovos.",
            Step("m * 12", "{N} sells {=} eggs.", "{N} vende {=} ovos.", "w"),
            "v - w",
        ),
        part(
            "{M} gives {N} {k} eggs. | {N} gets {k} more eggs from a neighbour.",
            "{M} dá {k} ovos para {N}. | {N} ganha mais {k} ovos de um vizinho.",
            "v + k",
        ),
        part("{N} sells half of the eggs.", "{N} vende metade dos ovos.", "v / 2"),
    ),
    closings=(
        part("How many eggs does {N} have now?", "Quantos ovos {N} tem agora?"),
        part(
            "{N} puts the eggs into boxes of 6. How many boxes does {N} need?",
            "{N} põe os ovos em caixas de 6. De quantas caixas {N} precisa?",
            Step("v / 6", "{N} needs {=} boxes.", "{N} precisa de {=} caixas."),
        ),
        part(
            "{N} uses {g} eggs a day. For how many days do the eggs last?",
            "{N} usa {g} ovos por dia. Os ovos duram quantos dias?",
            Step("v / g", "The eggs last for {=} days.", "Os ovos duram {=} dias."),
        ),
        part(
            "{N} sells the rest for {g} dollars each. How many dollars does {N} get for the rest?",
            "{N} vende o resto por {g} reais cada um. Quantos reais {N} recebe pelo resto?",
            Step("v * g", "{N} gets {=} dollars.", "{N} recebe {=} reais."),
        ),
    ),
)

TANK = Family(
    things=(("litres", "litros", "m"),),
    now_en="Now there are {=} litres.",
    now_pt="Agora há {=} litros.",
    openings=(
        part("There are {v} litres of water in a tank.", "Há {v} litros de água em um tanque."),
        part(
            "{N} pours {m} buckets of {p} litres into an empty tank.",
            "{N} despeja {m} baldes de {p} litros em um tanque vazio.",
            Step("m * p", "At first there are {=} litres.", "No começo, há {=} litros."),
        ),
        part(
            "A pump brings {k} litres of water a minute. It fills an empty tank for {m} minutes.",
            "Uma bomba puxa {k} litros de água por minuto. Ela enche um tanque vazio durante {m} minutos.",
            Step("k * m", "The pump brings {=} litres.", "A bomba puxa {=} litros."),
        ),
    ),
    events=(
        part(
            "{N} uses {k} litres to water the garden. | {N} uses {k} litres to wash the car.",
            "{N} usa {k} litros para regar a horta. | {N} usa {k} litros para lavar o carro.",
            "v - k",
        ),
        part("The rain brings {k} more litres.", "A chuva traz mais {k} litros.", "v + k"),
        part(
            "The tank leaks {g} litres an hour for {m} hours.",
            "O tanque perde {g} litros por hora durante {m} horas.",
            Step("g * m", "The tank loses {=} litres.", "O tanque perde {=} litros.", "w"),
            "v - w",
        ),
        part(
            "{N} takes out {m} buckets of {p} litres.",
            "{N} tira {m} baldes de {p} litros.",
            Step("m * p", "The buckets hold {=} litres.", "Os baldes levam {=} litros.", "w"),
            "v - w",
        ),
        part("Half of the water is used up.", "Metade da água é gasta.", "v / 2"),
    ),
    closings=(
        part("How many litres are in the tank now?", "Quantos litros há no tanque agora?"),
        part(
            "A full tank holds {t} litres. How many litres are missing?",
            "O tanque cheio tem {t} litros. Quantos litros faltam?",
            Step("t - v", "{=} litres are missing.", "Faltam {=} litros."),
        ),
        part(
            "The family drinks {m} litres a day. For how many days does the water last?",
            "A família bebe {m} litros por dia. A água dura quantos dias?",
            Step("v / m", "The water lasts for {=} days.", "A água dura {=} dias."),
        ),
        part(
            "{N} fills bottles of {g} litres with all the water. How many bottles does {N} fill?",
            "{N} enche garrafões de {g} litros com toda a água. Quantos garrafões {N} enche?",
            Step("v / g", "{N} fills {=} bottles.", "{N} enche {=} garrafões."),
        ),
    ),
)

JOURNEY = Family(
    things=(("kilometres", "quilômetros", "m"),),
    now_en="So far {N} has travelled {=} kilometres.",
    now_pt="Até aqui, {N} viajou {=} quilômetros.",
    openings=(
        part(
            "{N} cycles {k} kilometres a day for {m} days.",
            "{N} pedala {k} quilômetros por dia durante {m} dias.",
            "k * m",
        ),
        part(
            "{N} travels {a} kilometres by bus and {b} kilometres by train.",
            "{N} viaja {a} quilômetros de ônibus e {b} quilômetros de trem.",
            "a + b",
        ),
        part(
            "{N} drives for {m} hours at {s} kilometres an hour.",
            "{N} dirige durante {m} horas a {s} quilômetros por hora.",
            "m * s",
        ),
    ),
    events=(
        part(
            "{N} goes on for {k} kilometres by boat. | {N} goes on for {k} kilometres by taxi.",
            "{N} segue por {k} quilômetros de barco. | {N} segue por {k} quilômetros de táxi.",
            "v + k",
        ),
        part(
            "{N} walks for {m} hours at {g} kilometres an hour.",
            "{N} caminha durante {m} horas a {g} quilômetros por hora.",
            Step("m * g", "{N} walks {=} kilometres.", "{N} caminha {=} quilômetros.", "w"),
            "v + w",
        ),
        part(
            "{N} covers the whole distance once more on the next day.",
            "{N} percorre toda essa distância mais uma vez no dia seguinte.",
            "v * 2",
        ),
    ),
    closings=(
        part("How many kilometres does {N} travel in all?", "Quantos quilômetros {N} viaja ao todo?"),
        part(
            "The whole trip has {t} kilometres. How many kilometres are left?",
            "A viagem inteira tem {t} quilômetros. Quantos quilômetros faltam?",
            Step("t - v", "{=} kilometres are left.", "Faltam {=} quilômetros."),
        ),
        part(
            "The trip has {t} kilometres. {N} does the rest in {m} equal days. How many kilometres a day is that?",
            "A viagem tem {t} quilômetros. {N} faz o resto em {m} dias iguais. Quantos quilômetros por dia são?",
            Step("t - v", "{=} kilometres are left.", "Faltam {=} quilômetros.", "w"),
            Step("w / m", "That is {=} kilometres a day.", "São {=} quilômetros por dia."),
        ),
        part(
            "Each kilometre costs {g} dollars. How many dollars does the trip cost?",
            "Cada quilômetro custa {g} reais. Quantos reais a viagem custa?",
            Step("v * g", "The trip costs {=} dollars.", "A viagem custa {=} reais."),
        ),
    ),
)

FENCE = Family(
    things=(("metres", "metros", "m"),),
    now_en="Now {N} needs {=} metres.",
    now_pt="Agora {N} precisa de {=} metros.",
    linked=False,
    num_events=(0, 2),
    openings=(
        part(
            "{N} wants to put a fence around a garden that is {a} metres long and {b} metres wide.",
            "{N} quer cercar uma horta retangular de {a} metros de comprimento e {b} metros de largura.",
            Step("a + b", "Length and width make {=} metres.", "Comprimento e largura somam {=} metros.", "w"),
            Step("w * 2", "The way around is {=} metres.", "A volta toda tem {=} metros."),
        ),
        part(
            "{N} wants to put a fence around a square garden with sides of {k} metres.",
            "{N} quer cercar uma horta quadrada com lados de {k} metros.",
            Step("k * 4", "The way around is {=} metres.", "A volta toda tem {=} metros."),
        ),
    ),
    events=(
        part(
            "The gate takes up {g} metres, which need no fence.",
            "O portão ocupa {g} metros, que não precisam de cerca.",
            "v - g",
        ),
        part(
            "{M} gives {N} {k} metres of old fence.",
            "{M} dá {k} metros de cerca velha para {N}.",
            "v - k",
        ),
        part(
            "{N} also needs {k} metres for the chickens.",
            "{N} também precisa de {k} metros para o galinheiro.",
            "v + k",
        ),
    ),
    closings=(
        part("How many metres of fence does {N} need?", "De quantos metros de cerca {N} precisa?"),
        part(
            "A metre of fence costs {p} dollars. How many dollars does the fence cost?",
            "O metro de cerca custa {p} reais. Quantos reais custa a cerca?",
            Step("v * p", "The fence costs {=} dollars.", "A cerca custa {=} reais."),
        ),
        part(
            "The fence is sold in rolls of {m} metres. How many rolls does {N} need?",
            "A cerca é vendida em rolos de {m} metros. De quantos rolos {N} precisa?",
            Step("v / m", "{N} needs {=} rolls.", "{N} precisa de {=} rolos."),
        ),
        part(
            "At home {N} has {k} metres of new fence. How many metres must {N} buy?",
            "Em casa, {N} tem {k} metros de cerca nova. Quantos metros {N} precisa comprar?",
            Step("v - k", "{N} must buy {=} metres.", "{N} precisa comprar {=} metros."),
        ),
    ),
)
