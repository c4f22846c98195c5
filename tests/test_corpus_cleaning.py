"""What a clinician would miss stays, what the printer added goes, and sentences end where they end."""

import pytest

from cardioembed_study.corpus import cleaning

GOLDEN = [  # our own sentences; " | " marks where one ends
    "The left ventricle ejects blood into the aorta. | The right ventricle ejects it into the pulmonary trunk.",
    "Potassium was 5.5 mmol/L on admission. | It fell to 4.1 mmol/L by the evening.",
    "As Fig. 2 shows, the wave precedes contraction. | The interval is then measured.",
    "See Figs. 3 and 4 for the tracing. | Note the delta wave in both.",
    "Eq. 2 gives the valve area. | It assumes steady flow.",
    "Some beta-blockers, e.g. metoprolol, slow the sinus node. | They are taken by mouth.",
    "Some drugs (e.g., digoxin) have a narrow margin. | Their levels are checked.",
    "Older agents, e.g. Lanoxin, are still in use. | Newer ones cost more.",
    "The vessel narrows (i.e., its radius falls). | Flow then drops steeply.",
    "Adenosine is pushed i.v. over two seconds. | Its effect is brief.",
    "The drug was given i.v. | Relief followed within minutes.",
    "Atropine (0.5 mg i.v.) was given at once. | The rate rose to 80.",
    "Take 5 mg p.o. b.i.d. with food. | Avoid grapefruit juice.",
    "Heparin 5000 units s.c. twice daily was begun. | No bleeding occurred.",
    "Dr. Osei measured the wedge pressure. | It was normal.",
    "Mr. Brown had angina at rest. | Ms. Green did not.",
    "Prof. Lind first described the sign. | It is rarely seen now.",
    "Take aspirin 75 mg o.d. with food. | It may irritate the stomach.",
    "Bisoprolol 5 mg o.d. was begun. | Digoxin was stopped.",
    "The dose is 5 mg b.i.d. | Digoxin is given once a day.",
    "Ramipril is taken o.d. | The dose is doubled after two weeks.",
    "A 54 y.o. man had chest pain. | His ECG was normal.",
    "The donor was 31 y.o. | The recipient was older.",
    "Furosemide 40 mg t.d.s. was too much. | Sodium fell.",
    "In 1912 J. B. Herrick wrote of coronary thrombosis. | Few believed him.",
    "The sign was described by J. B. Herrick. | Few read the paper.",
    "The papers of W. H. Gaskell, T. Lewis and A. B. Cushny are still read. | They are short.",
    "J. B. Carter described the murmur. | It is best heard at the apex.",
    "Okafor et al. found no benefit. | Later trials agreed with them.",
    "A St. Jude valve was implanted. | It clicks audibly.",
    "E. coli grew in one bottle. | No streptococci were found.",
    "Cultures grew S. aureus and E. faecalis. | Therapy was changed.",
    "H. pylori is common in adults. | It does not cause angina.",
    "Infection with Streptococcus spp. is usual. | Other species are rare.",
    "The mean gradient was approx. 40 mmHg. | Surgery was advised.",
    "Patient no. 3 had no murmur. | The others did.",
    "Aspirin vs. placebo was compared in men. | No harm was seen.",
    "Section 3 describes the method. | Section 4 gives the results.",
    "The QT interval was 0.44 s. | It lengthened to 0.52 s. | Torsades followed.",
    "Is the murmur systolic? | Ask the patient to squat! | Then listen again.",
    'He said, "My chest hurts." | An ECG was taken at once.',
    "The patient said, “I feel faint.” | She then fell.",
    "Smoking, high lipids, etc. are risk factors. | Age is another.",
    "Risk factors include smoking, diabetes, etc. | Each of them can be changed.",
    "The U.S. guideline differs slightly. | The European one is older.",
    "The U.S. Food and Drug Administration approved it. | Use then grew.",
    "She was seen at 8 a.m. and again at 4 p.m. | Her pain had gone.",
    "The clinic opens at 9.30 a.m. | Patients fast beforehand.",
    "The arterial pH fell to 7.1. | Bicarbonate was given.",
    "Troponin was <0.01 ng/mL. | Infarction was unlikely.",
    "Warfarin blocks the recycling of vitamin K. | Clotting factors then fall.",
    "The donor had hepatitis C. | Treatment cured it.",
    "His blood group was O. | He could give to anyone.",
    "The pause lengthened ... and the next beat came. | It was wide.",
    "Three forms exist: 1. stable, 2. unstable, 3. variant. | Each differs in its course.",
    "1. Check the airway. | 2. Call for help. | 3. Start compressions.",
    "Blood pressure was 120/80 mm Hg. | The pulse was 80.",
    "Ca2+ enters the cell. | K+ then leaves it.",
    "One dose costs $4.50 in some places. | Cheaper ones exist.",
    "The ejection fraction was 35%. | The ventricle was dilated.",
    "The aorta measured 5.5 cm. | Repair was offered.",
    "The pain lasted 3 min. and then stopped. | It did not recur.",
    "The trial (n = 1,204; P = .03) was positive. | It was small.",
    "Rates rose by .5% a year. | They then levelled off.",
    "The murmur was grade 3/6. | It radiated to the axilla.",
    "The ICD-10 code is I21.9. | It means an infarction.",
    "The max. dose is 40 mg. | The min. dose is 5 mg.",
    "Both Ph.D. and M.D. students took part. | None dropped out.",
    "The valve closed (see above). | Pressure then fell.",
    "(The tracing is normal.) | It was repeated the next day.",
    "The site was Washington, D.C., in spring. | Recruitment was quick.",
    "The gene is transcribed in the nucleus. | mRNA then leaves it.",
    "A sample was drawn at noon. | pH was 7.2.",
    "There was no rub, no gallop, etc., on examination. | Breathing was normal.",
    "Is digoxin safe (i.e. at a low dose)? | It usually is.",
    "The cardiac index was 1.8 L/min/m2. | Inotropes were begun.",
    "Give 300 mg stat. and then 75 mg daily. | Do not stop early.",
    "The resp. rate was 30/min. | Oxygen was given.",
    "A wave at 1.2 m/s was seen; it was brief. | No jet was found.",
    "The stenosis was severe (valve area 0.8 cm2). | It was calcified.",
    "Class I vs. Class III drugs were compared. | Neither was better.",
    "The lead lies in the right ventricle (cf. Table 2). | It is fixed by a screw.",
    "The vessels (arteries, veins, etc.) are lined by endothelium. | It is one cell thick.",
    "What is a bruit? | A bruit is the noise of turbulent flow.",
    "The graft was patent at 1 yr. after surgery. | It failed at 10 years.",
    "Dept. of Health figures agree. | Deaths fell by a tenth.",
    "The rhythm was A. fib. with a fast rate. | Control was easy.",
    "Trials in the U.K. and the U.S. agree. | Others do not.",
    "Avoid NSAIDs (ibuprofen, naproxen, etc.). | Paracetamol is safer.",
    "It was reported by Patel, R., and by others. | The sign faded.",
    "The patient is N.P.O. after midnight. | Clear fluids stop at six.",
    "The plateau lasts 175 ms. | Once it ends, potassium leaves.",
    "Calcium leaves the SR. | Myosin then binds to actin.",
    "Is a third sound always abnormal? | No. | It can be normal in children.",
    "Give one dose stat. | The nurse then rechecks the pressure.",
    "The sign was seen by Okafor et al. | The next study missed it.",
    "Mrs. Adeyemi had no oedema. | Her weight was stable.",
    "The rate was 72/min at rest and 118/min on the stairs. | No arrhythmia followed.",
    "Ask about pain, dyspnoea, etc. | Do not lead the patient.",
]


@pytest.mark.parametrize("marked", GOLDEN)
def test_sentences_end_where_a_reader_ends_them(marked):
    wanted = marked.split(" | ")
    assert cleaning.sentences(cleaning.clean(" ".join(wanted))) == wanted


UNTOUCHED = [
    "The cardiac index was 1.8 L/min/m2 and the body mass index 31 kg/m2.",
    "A cross-section of the aorta showed no dissection flap.",
    "PAGET's disease and a PAGE-stained gel are not page numbers.",
    "There was no chest pain, and dyspnoea was absent without exertion.",
    "The hazard ratio was 0.82 (95% CI [1, 3]; n = 2015).",
    "Fig. 2 shows the left ventricle in systole.",
    "As Table 3 shows, lead V1 (see also lead V2) is positive.",
    "He was admitted (May 12, 2019) with rupture of a papillary muscle.",
    "[18F]FDG uptake and [99mTc] perfusion did not match.",
    "Troponin was <0.01 ng/mL and BNP >400 pg/mL.",
    "One tablet costs $4.50, and a pack $18.",
    "Section 3 of the septum (the membranous part) is thin.",
    "The dose (5 mg i.v.; repeat once) was given at 5.5 mmol/L.",
    "The valve (area 0.8 cm2, figure-of-eight shape) was calcified.",
    "The left (not the right) bundle was blocked; axis −30°.",
    "Output falls by .5% a year, from 5.0 to 4.9 L/min.",
]


@pytest.mark.parametrize("sentence", UNTOUCHED)
def test_nothing_clinical_is_lost(sentence):
    assert cleaning.clean(sentence) == sentence
    assert not cleaning.is_noise(sentence)


CLEANED = [
    ("Flow halves [12] in shock [3, 4–6].", "Flow halves in shock."),
    ("Flow halves (Okafor et al., 2018).", "Flow halves."),
    (
        "Flow halves (see van der Berg & Osei, 2019a, p. 4; Ministry of Health [MOH], n.d.-b; 2021) in shock.",
        "Flow halves in shock.",
    ),
    ("The wall thins (Figure 3.2) and dilates (see Figs. 2a and 3 and Table 4).", "The wall thins and dilates."),
    ("The wall thins (credit: drawing by A. Person, CC BY).", "The wall thins."),
    ("The wall thins. (Micrograph provided by the college)", "The wall thins."),
    ("The wall <b>thins</b><br/> at 5.5&nbsp;mmol/L &lt; 6.", "The wall thins at 5.5 mmol/L < 6."),
    ("10<sup>3</sup> cells/mm<sup>3</sup>, Ca<sup>2+</sup>, H<sub>2</sub>O", "10^3 cells/mm3, Ca2+, H2O"),
    ("$\\mathrm{Ca}^{2+}$ enters at $10^{3}$ ions/s.", "Ca2+ enters at 10^3 ions/s."),
    (
        "The \ufb01brous ring \ufb02exes; the ven\u00adtricle\u200b fills.",
        "The fibrous ring flexes; the ventricle fills.",
    ),
    ("Outcomes were better.12 Mortality fell.", "Outcomes were better. Mortality fell."),
    ("The atria contract.The ventricles fill.", "The atria contract. The ventricles fill."),
    ("Details are at https://example.org/a_b?c=1. They help.", "Details are at. They help."),
    ("It fell in the U.S.. Then it rose.", "It fell in the U.S. Then it rose."),
    ("Flow halves ( ) , then stops .", "Flow halves, then stops."),
]


@pytest.mark.parametrize(("dirty", "wanted"), CLEANED)
def test_what_the_printer_added_goes(dirty, wanted):
    assert cleaning.clean(dirty) == wanted


@pytest.mark.parametrize(("dirty", "wanted"), CLEANED)
def test_cleaning_twice_changes_nothing_more(dirty, wanted):
    assert cleaning.clean(wanted) == wanted


@pytest.mark.parametrize(
    "sentence",
    [
        "Watch this short video to see a valve close.",
        "Read the following clinical scenario to answer the questions.",
        "By the end of this section, you will be able to name four valves.",
        "Answers will vary from one student to the next.",
        "12.4 18.2 33.1 (4.4) 12.9 7.7 mean",
        "Chapter four .............. 112 and 113",
        "Nwosu A. Sounds of the heart. J Made Up. 2011;4(2):11–19.",
        "Ordered: ____ mg of the drug by mouth",
        "listening over the apex,",
        "Nwosu A, Valves in rings, Made-up Letters 9 (1953), no. 3, 149–196.",
        "2 Department of Valves, University of Nowhere, Nowhere",
        "Ada Nwosu, Department of Valves, ada.nwosu@heart.example",
        "The pathway is set out in \ufffc and explained there.",
    ],
)
def test_sentences_that_say_nothing_are_noise(sentence):
    assert cleaning.is_noise(sentence)


@pytest.mark.parametrize(
    "hostile", ["a" * 10**6, "(" * 10**6, "[" * 10**6, "<b " * 300_000, "(A, 2018;" * 100_000, "$" * 10**6]
)
def test_a_line_of_a_million_characters_does_not_hang(hostile, no_hang):
    cleaning.sentences(cleaning.clean(hostile))


def test_a_paragraph_of_ten_thousand_sentences_does_not_hang(no_hang):
    said = (f"Patient no. {n} had a gradient of approx. {n}.5 mmHg (Fig. {n})." for n in range(10_000))
    assert len(cleaning.sentences(cleaning.clean(" ".join(said)))) == 10_000
