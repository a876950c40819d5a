"""Facts that an agent could remember, and questions that one of them answers, in five languages.

Made for this benchmark. Each language has facts with a question, and facts that only look alike. Of the questions, the
first group shares words with its fact, as inflected or compounded as people do; the second says it in other words.
"""

# By language: facts with a question in words of the fact, facts with a question in other words, and distractors.
FACTS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]], list[str]]] = {
    "English": (
        [
            ("Ada likes green tea without sugar.", "Which tea does Ada like?"),
            ("Ada's sister Clara studies medicine in Vienna.", "What is Ada's sister studying?"),
            ("The deployment to production happens every Tuesday at nine.", "When do we deploy to production?"),
            ("The invoice for the printer was paid in March.", "Which invoices have been paid in March?"),
            ("Ada plays the cello in an amateur orchestra.", "Who is playing in an orchestra?"),
            ("The door code of the office is 4711.", "What's the code for the office door?"),
            ("Ada is writing her thesis about bees.", "What did Ada write her thesis about?"),
        ],
        [
            ("Ada is allergic to peanuts.", "Which food must we avoid when cooking for Ada?"),
            ("Ada prefers to be contacted by email.", "How should I get in touch with her?"),
            ("Bob owns two cats called Miso and Tofu.", "What pets does Bob have?"),
            ("The team uses PostgreSQL for all services.", "Which database do we run on?"),
            ("Bob commutes by bicycle.", "How does Bob get to work?"),
        ],
        [
            "Ada's brother Tom sells tea in London.",
            "The test environment is rebuilt every night.",
            "The printer on the second floor has no toner.",
            "Ada went to the opera in May.",
            "Bob is writing an article about tea houses.",
            "The office is closed on public holidays.",
        ],
    ),
    "German": (
        [
            ("Jonas trinkt morgens am liebsten schwarzen Kaffee.", "Welchen Kaffee trinkt Jonas?"),
            ("Jonas arbeitet seit 2019 bei einer Versicherung in Köln.", "Wo arbeitet Jonas?"),
            ("Die Besprechungen mit dem Vertrieb sind immer montags.", "Wann ist die Besprechung mit dem Vertrieb?"),
            ("Jonas hat zwei Töchter, Mia und Lea.", "Wie heißen die Töchter von Jonas?"),
            ("Der Schlüssel für den Keller hängt neben der Tür.", "Wo hängen die Kellerschlüssel?"),
            ("Jonas spricht fließend Italienisch.", "Welche Sprachen spricht Jonas?"),
            ("Jonas läuft im Herbst einen Marathon in Berlin.", "Wo will Jonas einen Marathon laufen?"),
        ],
        [
            ("Jonas verträgt keine Milchprodukte.", "Was darf Jonas nicht essen?"),
            ("Jonas fährt mit dem Zug ins Büro.", "Wie kommt Jonas zur Arbeit?"),
            ("Jonas wohnt in einer Wohngemeinschaft in Ehrenfeld.", "In welchem Stadtteil lebt er?"),
            ("Jonas möchte mit Du angesprochen werden.", "Soll ich ihn duzen oder siezen?"),
            ("Der Vertrag mit dem Stromanbieter endet im Juni.", "Bis wann läuft der Strom?"),
        ],
        [
            "Der Kaffee im Büro ist meistens alle.",
            "Jonas war im Urlaub in Italien.",
            "Die Versicherung für das Auto ist bezahlt.",
            "Mia hat im Mai Geburtstag.",
            "Der Vertrieb sitzt im dritten Stock.",
            "Im Keller steht ein altes Fahrrad.",
        ],
    ),
    "French": (
        [
            ("Camille préfère les réunions le matin.", "Quand Camille préfère-t-elle la réunion ?"),
            ("Camille habite à Lyon depuis dix ans.", "Où habite Camille ?"),
            ("L'anniversaire de Camille est le 3 février.", "C'est quand, l'anniversaire de Camille ?"),
            ("Camille a étudié l'architecture à Bordeaux.", "Qu'est-ce que Camille a fait comme études ?"),
            ("Le mot de passe du wifi est affiché dans la cuisine.", "Où trouve-t-on le mot de passe du wifi ?"),
            ("Camille adore les films d'animation japonais.", "Quels films Camille adore-t-elle ?"),
            ("Les factures sont envoyées à la fin de chaque mois.", "Quand envoie-t-on la facture ?"),
        ],
        [
            ("Camille est végétarienne.", "Est-ce que Camille mange de la viande ?"),
            ("Camille conduit une vieille camionnette bleue.", "De quelle couleur est sa voiture ?"),
            ("Camille travaille comme infirmière de nuit.", "Quel est le métier de Camille ?"),
            ("Le chat de Camille s'appelle Moustache.", "Comment se nomme son animal ?"),
            ("Camille a peur de prendre l'avion.", "Pourquoi ne veut-elle pas voler ?"),
        ],
        [
            "La réunion de mardi est annulée.",
            "Le frère de Camille cherche un appartement à Lille.",
            "La cuisine sera repeinte en février.",
            "Camille a oublié son parapluie au cinéma.",
            "Le wifi est plus lent le soir.",
            "La facture d'eau a doublé cette année.",
        ],
    ),
    "Spanish": (
        [
            ("Lucía cocina paella los domingos.", "¿Qué cocina Lucía los domingos?"),
            ("Lucía vive en Valencia con su abuela.", "¿Con quién vive Lucía?"),
            ("El vuelo de Lucía sale el viernes a las seis.", "¿Cuándo salen los vuelos de Lucía?"),
            ("Lucía aprendió a nadar en el mar.", "¿Dónde aprendió Lucía a nadar?"),
            ("La contraseña del servidor caduca cada noventa días.", "¿Cada cuánto caducan las contraseñas?"),
            ("Lucía colecciona sellos antiguos.", "¿Qué colecciona Lucía?"),
            ("Los pedidos grandes necesitan la firma del director.", "¿Qué pedido necesita firma?"),
        ],
        [
            ("Lucía no come marisco porque le da alergia.", "¿A qué es alérgica Lucía?"),
            ("Lucía estudia por las noches después de cenar.", "¿A qué hora prefiere leer sus apuntes?"),
            ("El perro de Lucía se llama Trueno.", "¿Qué mascota tiene Lucía?"),
            ("Lucía quiere ser piloto de helicópteros.", "¿Cuál es su sueño profesional?"),
            ("Lucía paga siempre en efectivo.", "¿Usa tarjeta de crédito?"),
        ],
        [
            "Los domingos no hay autobuses.",
            "El abuelo de Lucía vendía pescado.",
            "El viernes es fiesta en Valencia.",
            "El servidor está en el sótano.",
            "Lucía perdió un sello del pasaporte.",
            "El director está de vacaciones.",
        ],
    ),
    "Chinese": (
        [
            ("小明喜欢喝绿茶。", "小明喜欢喝什么茶？"),
            ("小明在北京大学学习物理。", "小明在哪所大学学习？"),
            ("每周三下午开项目会议。", "项目会议是星期几开的？"),
            ("小明的妹妹住在上海。", "谁住在上海？"),
            ("办公室的打印机在三楼。", "打印机在几楼？"),
            ("小明每天早上跑步五公里。", "小明每天跑步多少公里？"),
            ("合同的有效期到明年六月。", "合同有效期到什么时候？"),
        ],
        [
            ("小明对花生过敏。", "做饭时小明不能吃什么？"),
            ("小明养了两只猫。", "小明家里有什么宠物？"),
            ("小明坐地铁上班。", "小明怎么去公司？"),
            ("小明希望用邮件联系。", "应该如何和小明沟通？"),
            ("小明的生日是十月一日。", "小明是哪天出生的？"),
        ],
        [
            "小明的弟弟在广州卖茶叶。",
            "北京的冬天很冷。",
            "会议室在二楼。",
            "上海的地铁很挤。",
            "打印机没有纸了。",
            "公司六月搬家。",
        ],
    ),
}
